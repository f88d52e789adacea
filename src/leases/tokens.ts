import { err, ok } from '../net/result.ts';
import { holderKey, type AccessToken } from './model.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

export const createToken: UseCase<'createToken'> = {
  *needs({ machine, holder }) {
    if (machine !== null) yield [{ need: 'machine', id: machine }];
    if (machine !== null && holder !== null) yield [{ need: 'holder', machine, name: holder }];
  },

  decide({ name, role, machine, holder, hash }, { view }) {
    if (machine !== null && !view.machines.get(machine)) return err({ code: 'machine_not_found', machine });
    if (machine !== null && holder !== null && !view.holders.get(holderKey(machine, holder)))
      return err({ code: 'holder_not_found', machine, holder });
    const bearer = { name, role, machine, holder };
    return ok(putToken(view, hash, (id, at) => ({ id, ...bearer, createdAt: at, revokedAt: null })));
  },
};

export const revokeToken: UseCase<'revokeToken'> = {
  *needs({ id }) {
    yield [{ need: 'accessToken', id }];
  },

  decide({ id }, { view }) {
    const token = view.accessTokens.get(id);
    if (!token) return err({ code: 'token_not_found', token: id });
    if (token.revokedAt !== null) return ok(token);
    const { hash, ...rest } = token;
    return ok(putToken(view, hash, (_, at) => ({ ...rest, revokedAt: at })));
  },
};

/** The log tells that a token came or went, and never its hash. */
function putToken(
  view: View,
  hash: string,
  make: (revision: number, at: number) => Omit<AccessToken, 'hash'>,
): AccessToken {
  const { token } = view.log(null, (revision, at) => ({ kind: 'token', token: make(revision, at) }));
  view.accessTokens.put({ ...token, hash });
  return { ...token, hash };
}
