// An OpenID provider for one test: `node server.mjs`. It listens on a port of the system's choice on loopback, and says on
// stdout where. Clients get access tokens in the form of JWTs (RFC 9068) by client credentials; what a client is, is told by
// claims, as CI systems do. POST /rotate replaces the signing key at once, as after a compromise. GET /actions/token is what GitHub
// gives its jobs: who shows the job's own credential gets a token for an audience. POST /log-in/CODE and /refuse/CODE do in a
// browser's place what a person does who was shown the code (RFC 8628 §3.3), page by page.
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

// Of the job that asks for its token.
const jobCredential = 'bearer of-the-job';

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
    })).concat({
      client_id: 'countersign-cli',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
    }),
    extraTokenClaims: (_ctx, token) => clients[token.clientId],
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      // Whoever says a name is that person.
      devInteractions: { enabled: true },
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

// GitHub's: https://docs.github.com/actions/concepts/security/openid-connect
async function actionsToken(request, response) {
  const audience = new URL(request.url, issuer).searchParams.get('audience');
  if (request.headers.authorization?.toLowerCase() !== jobCredential) {
    response.statusCode = 401;
    response.end('{"message": "the credential is not that of a job"}');
    return;
  }
  const form = { grant_type: 'client_credentials', client_id: 'shop-main', client_secret: secret, resource: `urn:${audience}` };
  const answered = await fetch(`${issuer}/token`, { method: 'POST', body: new URLSearchParams(form) });
  response.end(JSON.stringify({ count: 1, value: (await answered.json()).access_token }));
}

// A browser: it keeps cookies and follows redirects.
function browser() {
  const cookies = new Map();
  return async function visit(url, form) {
    const page = await fetch(url, {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const cookie of page.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (value) cookies.set(name, value); else cookies.delete(name);
    }
    const next = page.headers.get('location');
    if (next) return visit(new URL(next, url));
    if (page.status !== 200 && !form?.abort) throw new Error(`${url}: ${page.status} ${await page.text()}`);
    return { url, text: await page.text() };
  };
}

async function answerCode(user_code, decision) {
  const visit = browser();
  const device = `${issuer}/device`;
  const xsrf = /name="xsrf" value="([^"]+)"/.exec((await visit(device)).text)[1];
  await visit(device, { xsrf, user_code });
  const login = await visit(device, { xsrf, user_code, [decision]: 'yes' });
  if (decision === 'abort') return;
  const consent = await visit(login.url, { prompt: 'login', login: 'alice', password: 'any' });
  await visit(consent.url, { prompt: 'consent' });
}

let answer;
let issuer;
const server = createServer(async (request, response) => {
  const [, place, code] = request.url.split('/');
  try {
    if (request.method === 'POST' && request.url === '/rotate') {
      answer = provider(issuer);
      response.end('rotated\n');
    } else if (request.method === 'GET' && request.url.startsWith('/actions/token?')) {
      await actionsToken(request, response);
    } else if (request.method === 'POST' && ['log-in', 'refuse'].includes(place)) {
      await answerCode(code, place === 'log-in' ? 'confirm' : 'abort');
      response.end('done\n');
    } else {
      answer(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(`${error}\n`);
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  answer = provider(issuer);
  console.log(`issuer ${issuer}`);
});
