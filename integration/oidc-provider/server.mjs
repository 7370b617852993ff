// An OpenID provider for one test: `node server.mjs`. It listens on a port of the system's choice on loopback, and says on
// stdout where. Clients get access tokens in the form of JWTs (RFC 9068) by client credentials; what a client is, is told by
// claims, as CI systems do. POST /rotate replaces the signing key at once, as after a compromise.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

// One secret for all: only tests on this machine know the port.
const secret = 'a-secret-of-the-test';
const clients = {
  'shop-main': { repository: 'acme/shop', ref: 'refs/heads/main', job: 'deploy' },
  'shop-branch': { repository: 'acme/shop', ref: 'refs/heads/feature', job: 'deploy' },
  'shop-odd': { repository: 'acme/shop', ref: 'refs/heads/main', job: '../../ns/tools/sa/root' },
};
const audiences = { 'urn:countersign-ca': 'countersign-ca', 'urn:vault': 'vault' };

let generation = 0;
function provider(issuer) {
  generation += 1;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = { ...privateKey.export({ format: 'jwk' }), kid: `key-${generation}`, alg: 'ES256', use: 'sig' };
  return new Provider(issuer, {
    jwks: { keys: [key] },
    clients: Object.keys(clients).map((client_id) => ({
      client_id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
    })),
    extraTokenClaims: (_ctx, token) => clients[token.clientId],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({
          scope: '',
          audience: audiences[resource],
          accessTokenTTL: 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  }).callback();
}

let answer;
let issuer;
const server = createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/rotate') {
    answer = provider(issuer);
    response.end('rotated\n');
  } else {
    answer(request, response);
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  answer = provider(issuer);
  console.log(`issuer ${issuer}`);
});
