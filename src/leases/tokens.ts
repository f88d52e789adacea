import { err, ok, type Result } from '../net/result.ts';
import type { TokenExpiry } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { holderKey, type AccessToken, type TokenFacts, type TokenQuota } from './model.ts';
import type { Need } from './needs.ts';
import { secretShownOnce, tokenAsItIs } from './replays.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

const noQuota: TokenQuota = { requestsPerS: null, requestsBurst: null, watchersMax: null };

export const createToken: UseCase<'createToken'> = {
  replay: secretShownOnce,

  *needs({ machine, holder, router = null }) {
    if (machine !== null) yield [{ need: 'machine', id: machine }];
    if (machine !== null && holder !== null) yield [{ need: 'holder', machine, name: holder }];
    if (router !== null) yield [{ need: 'router', id: router }];
  },

  decide({ name, role, machine, holder, router = null, hash, expiry, quota }, { view, now }) {
    if (machine !== null && !view.machines.get(machine)) return err({ code: 'machine_not_found', machine });
    if (machine !== null && holder !== null && !view.holders.get(holderKey(machine, holder)))
      return err({ code: 'holder_not_found', machine, holder });
    if (router !== null && !view.routers.get(router)) return err({ code: 'router_not_found', router });
    const expiresAt = expiryOf(expiry ?? null, now);
    if (!expiresAt.ok) return expiresAt;
    const terms = { name, role, machine, holder, router, quota: quota ?? noQuota, expiresAt: expiresAt.value };
    const unused = { formerUntil: null, rotatedAt: null, revokedAt: null, lastUsedAt: null };
    const secrets = { hash, formerHash: null };
    return ok(putToken(view, secrets, (id, at) => ({ id, ...terms, ...unused, createdAt: at })));
  },
};

export const updateToken: UseCase<'updateToken'> = {
  replay: tokenAsItIs,
  needs: byId,

  decide({ id, name, expiry, quota }, { view, now }) {
    const token = liveToken(view, id, now);
    if (!token.ok) return token;
    const expiresAt = expiry === undefined ? ok(token.value.expiresAt) : expiryOf(expiry, now);
    if (!expiresAt.ok) return expiresAt;
    const changes = { expiresAt: expiresAt.value, ...(name === undefined ? {} : { name }), ...(quota && { quota }) };
    return ok(putToken(view, token.value, () => ({ ...factsOf(token.value), ...changes })));
  },
};

export const rotateToken: UseCase<'rotateToken'> = {
  replay: secretShownOnce,
  needs: byId,

  decide({ id, hash, graceUs, expiry }, { view, now }) {
    const token = liveToken(view, id, now);
    if (!token.ok) return token;
    const expiresAt = expiry === undefined ? ok(token.value.expiresAt) : expiryOf(expiry, now);
    if (!expiresAt.ok) return expiresAt;
    const hasGrace = graceUs > 0;
    const secrets = { hash, formerHash: hasGrace ? token.value.hash : null };
    const terms = { formerUntil: hasGrace ? now + graceUs : null, expiresAt: expiresAt.value };
    return ok(putToken(view, secrets, (_, at) => ({ ...factsOf(token.value), ...terms, rotatedAt: at })));
  },
};

export const revokeToken: UseCase<'revokeToken'> = {
  replay: tokenAsItIs,
  needs: byId,

  decide({ id }, { view }) {
    const token = view.accessTokens.get(id);
    if (!token) return err({ code: 'token_not_found', token: id });
    return ok(endToken(view, token));
  },
};

/** Nobody gets in with it any more. */
export function endToken(view: View, token: AccessToken): AccessToken {
  if (token.revokedAt !== null) return token;
  const secrets = { hash: token.hash, formerHash: null };
  return putToken(view, secrets, (_, at) => ({ ...factsOf(token), formerUntil: null, revokedAt: at }));
}

export const noteTokenUses: UseCase<'noteTokenUses'> = {
  *needs({ uses }) {
    yield uses.map(({ token }): Need => ({ need: 'accessToken', id: token }));
  },

  decide({ uses }, { view, now }) {
    let noted = 0;
    for (const { token: id, agoUs } of uses) {
      const token = view.accessTokens.get(id);
      const at = now - agoUs;
      // Several servers tell of the same token, each when it gets to it.
      if (!token || (token.lastUsedAt ?? 0) >= at) continue;
      view.accessTokens.put({ ...token, lastUsedAt: at });
      noted++;
    }
    return ok({ noted });
  },
};

/** Whether anybody can get in with it: neither revoked nor expired. */
export const isLiveToken = (token: Pick<AccessToken, 'revokedAt' | 'expiresAt'>, now: number): boolean =>
  token.revokedAt === null && (token.expiresAt === null || now < token.expiresAt);

function* byId({ id }: Readonly<{ id: number }>) {
  yield [{ need: 'accessToken', id } as const];
}

function liveToken(view: View, id: number, now: number): Result<AccessToken, LeaseError> {
  const token = view.accessTokens.get(id);
  if (!token) return err({ code: 'token_not_found', token: id });
  if (isLiveToken(token, now)) return ok(token);
  return err({ code: 'token_not_live', token: id, state: token.revokedAt === null ? 'expired' : 'revoked' });
}

function expiryOf(expiry: TokenExpiry, now: number): Result<number | null, LeaseError> {
  if (expiry === null) return ok(null);
  if ('ttlUs' in expiry) return ok(now + expiry.ttlUs);
  return expiry.at > now ? ok(expiry.at) : err({ code: 'token_expiry_past', expiresAt: expiry.at, now });
}

/** The log tells what became of a token, and never what its secret could be compared with. */
function putToken(view: View, { hash, formerHash }: Secrets, make: MakeFacts): AccessToken {
  const { token: facts } = view.log(null, (revision, at) => ({ kind: 'token', token: make(revision, at) }));
  const token = { ...facts, hash, formerHash };
  view.accessTokens.put(token);
  return token;
}

type Secrets = Pick<AccessToken, 'hash' | 'formerHash'>;
type MakeFacts = (revision: number, at: number) => TokenFacts;

/** What may be told of a token: nothing that a secret could be compared with. */
export function factsOf({ hash: _hash, formerHash: _former, ...facts }: AccessToken): TokenFacts {
  return facts;
}
