// npm's oidc-provider with two clients: the gateway, where everybody may sign in under any name,
// and a job that asks for tokens of its own.
import { pathToFileURL } from 'node:url';
import { generateKeyPairSync } from 'node:crypto';

const settings = JSON.parse(process.argv[2]);
const { default: Provider } = await import(pathToFileURL(settings.module).href);

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const jwk = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' };

const provider = new Provider(settings.issuer, {
  jwks: { keys: [jwk] },
  clients: [{
    client_id: settings.client_id,
    client_secret: settings.client_secret,
    redirect_uris: [settings.redirect_uri],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    backchannel_logout_uri: settings.logout_uri,
    backchannel_logout_session_required: true,
  }, {
    client_id: settings.job_id,
    client_secret: settings.client_secret,
    redirect_uris: [],
    grant_types: ['client_credentials'],
    response_types: [],
  }],
  claims: { openid: ['sub', 'sid', 'groups'], email: ['email', 'email_verified'], profile: ['name'] },
  conformIdTokenClaims: false,
  // It refuses to call loopback addresses otherwise, and the gateway is on one.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  cookies: { keys: ['tests only'] },
  features: {
    clientCredentials: { enabled: true },
    // What a job's token is for: a JWT with the gateway's audience.
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'run', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 300,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  findAccount: async (_, id) => ({
    accountId: id,
    claims: async () => ({
      sub: id, email: `${id}@example.com`, email_verified: true, groups: settings.groups, name: id,
    }),
  }),
});

// Tests wait for what was granted.
provider.on('grant.success', (ctx) => console.log(`granted ${ctx.oidc.params.grant_type}`));
provider.on('backchannel.success', () => console.log('told of the logout'));
provider.on('backchannel.error', (_, error) => console.log(`logout failed: ${error} ${error.cause}`));

provider.listen(settings.port, '127.0.0.1');
