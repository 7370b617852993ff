// Unmodified SPIFFE and OpenID Connect clients, as the end-to-end tests run them. Each command ends with 0 when all that it
// is about has been seen, and says on standard output what that was: a JSON object a line.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	arguments := append(os.Args[1:], "", "", "", "", "")
	var err error
	switch arguments[0] {
	case "identity":
		err = identity(ctx, arguments[1], arguments[2])
	case "jwt":
		err = jwt(ctx, arguments[1], arguments[2])
	case "call":
		err = call(ctx, arguments[1], arguments[2], arguments[3])
	case "federated":
		err = federated(ctx, arguments[1], arguments[2], arguments[3], arguments[4])
	case "oidc":
		err = verifyAsOIDC(ctx, arguments[1], arguments[2], arguments[3], arguments[4], arguments[5])
	default:
		err = fmt.Errorf("no such command: %q", arguments[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func tell(fields map[string]any) {
	_ = json.NewEncoder(os.Stdout).Encode(fields)
}

// rotations tells of every X.509-SVID, and ends with the second.
type rotations struct {
	serials map[string]bool
	done    context.CancelFunc
}

func (r *rotations) OnX509ContextUpdate(update *workloadapi.X509Context) {
	svid := update.DefaultSVID()
	serial := svid.Certificates[0].SerialNumber.Text(16)
	r.serials[serial] = true
	tell(map[string]any{"id": svid.ID.String(), "serial": serial, "bundles": update.Bundles.Len()})
	if len(r.serials) == 2 {
		r.done()
	}
}

func (r *rotations) OnX509ContextWatchError(err error) {
	fmt.Fprintln(os.Stderr, "watch:", err)
}

// identity fetches the X.509-SVID and sees it rotate; then it fetches a JWT-SVID and verifies it, by the bundle and by the
// Workload API.
func identity(ctx context.Context, socket, audience string) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		return err
	}
	defer client.Close()

	watch, done := context.WithCancel(ctx)
	err = client.WatchX509Context(watch, &rotations{serials: map[string]bool{}, done: done})
	if ctx.Err() != nil || !errors.Is(watch.Err(), context.Canceled) {
		return fmt.Errorf("no rotation was seen: %w", err)
	}

	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	verified, err := jwtsvid.ParseAndValidate(token.Marshal(), bundles, []string{audience})
	if err != nil {
		return err
	}
	if _, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience); err != nil {
		return err
	}
	if _, err := client.ValidateJWTSVID(ctx, token.Marshal(), "somebody else"); err == nil {
		return errors.New("a token for another audience was taken")
	}
	tell(map[string]any{"jwt": verified.ID.String(), "claims": verified.Claims})
	return nil
}

// jwt fetches a JWT-SVID, verifies it by the bundle, and prints it.
func jwt(ctx context.Context, socket, audience string) error {
	source, err := workloadapi.NewJWTSource(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		return err
	}
	defer source.Close()
	svid, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), source, []string{audience}); err != nil {
		return err
	}
	tell(map[string]any{"id": svid.ID.String(), "token": svid.Marshal()})
	return nil
}

// federated fetches, from the first socket, the bundles of another trust domain, and verifies by them a JWT-SVID that the
// second socket gives to a workload there; the Workload API says the same. It tells the authorities as each side has them.
func federated(ctx context.Context, socket, other, audience, domain string) error {
	trustDomain, err := spiffeid.TrustDomainFromString(domain)
	if err != nil {
		return err
	}
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		return err
	}
	defer client.Close()
	there, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+other))
	if err != nil {
		return err
	}
	defer there.Close()

	ours, err := client.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	bundle, err := ours.Bundles.GetX509BundleForTrustDomain(trustDomain)
	if err != nil {
		return err
	}
	listed, err := client.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	if again, err := listed.GetX509BundleForTrustDomain(trustDomain); err != nil || !again.Equal(bundle) {
		return fmt.Errorf("the bundles and the SVID's tell of different authorities: %w", err)
	}
	theirs, err := there.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	their, err := theirs.GetX509BundleForTrustDomain(trustDomain)
	if err != nil {
		return err
	}

	token, err := there.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	keys, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	verified, err := jwtsvid.ParseAndValidate(token.Marshal(), keys, []string{audience})
	if err != nil {
		return err
	}
	if _, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience); err != nil {
		return err
	}
	authorities := func(bundle *x509bundle.Bundle) [][]byte {
		var der [][]byte
		for _, authority := range bundle.X509Authorities() {
			der = append(der, authority.Raw)
		}
		return der
	}
	tell(map[string]any{"jwt": verified.ID.String(), "x509": authorities(bundle), "theirs": authorities(their)})
	return nil
}

// call makes an HTTPS request, with the identity that the Workload API gives, to a server that must have the other one.
func call(ctx context.Context, socket, url, server string) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		return err
	}
	defer source.Close()
	expected, err := spiffeid.FromString(server)
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(expected))
	config.NextProtos = []string{"http/1.1"}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}

	response, err := get(ctx, &client, url)
	if err != nil {
		return err
	}
	tell(response)
	return nil
}

func get(ctx context.Context, client *http.Client, url string) (map[string]any, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": response.StatusCode, "body": string(body)}, nil
}

// verifyAsOIDC verifies a token as any OpenID Connect client does: by discovery from the issuer, which is at an address of
// this test instead of the one that its name would have.
func verifyAsOIDC(ctx context.Context, issuer, address, roots, audience, token string) error {
	pem, err := os.ReadFile(roots)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool}}
	ctx = oidc.ClientContext(ctx, &http.Client{Transport: transport})

	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{oidc.ES256}}).Verify(ctx, token)
	if err != nil {
		return err
	}
	tell(map[string]any{"subject": verified.Subject, "issuer": verified.Issuer})
	return nil
}
