import type { AccessToken, TokenFacts } from '../../src/leases/model.ts';

/** A token of a viewer that never expires, but for what `over` says. */
export const tokenWith = (id: number, over: Partial<AccessToken> = {}): AccessToken => ({
  ...factsWith(id),
  hash: `hash-${id}`,
  formerHash: null,
  ...over,
});

/** What the log tells of it. */
export const factsWith = (id: number): TokenFacts => ({
  id,
  name: `t${id}`,
  role: 'viewer',
  machine: null,
  holder: null,
  router: null,
  formerUntil: null,
  quota: { requestsPerS: null, requestsBurst: null, watchersMax: null },
  createdAt: 0,
  rotatedAt: null,
  expiresAt: null,
  revokedAt: null,
  lastUsedAt: null,
});
