import { err, ok, type Result } from '../net/result.ts';
import type { Grantee } from './claims.ts';
import type { Commands } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { holderKey } from './model.ts';
import type { Needs } from './needs.ts';
import { outOfScope, scopeNeeds } from './scope.ts';
import { liveSession, sessionNeeds } from './sessions.ts';
import type { Context } from './use-case.ts';
import type { View } from './view.ts';

type Grant = Commands['grantLeases']['input'];

/** Who a grant is for: the holder of a session that lives, or one that an operator reserves for, and who needs no session. */
export function* granteeNeeds(view: View, grant: Grant): Needs {
  if ('session' in grant) {
    yield* sessionNeeds(view, grant.scope, grant.session);
    return;
  }
  const { machine, holder } = grant.reservation;
  yield [
    { need: 'machine', id: machine },
    { need: 'holder', machine, name: holder },
    ...scopeNeeds(grant.scope, { machine, holder }),
  ];
}

/** The grantee as far as it is known while more is being loaded; `granteeOf` then says whether it may be granted to. */
export function granteeNamed(view: View, grant: Grant): Grantee | undefined {
  if ('reservation' in grant) return { ...grant.reservation, session: null };
  const session = view.sessions.get(grant.session);
  return session && { machine: session.machine, holder: session.holder, session: session.id, unit: null };
}

export function granteeOf(context: Context, grant: Grant): Result<Grantee, LeaseError> {
  const { view } = context;
  if ('session' in grant) {
    const session = liveSession(context, grant.scope, grant.session);
    if (!session.ok) return session;
    const { machine, holder, id } = session.value;
    return ok({ machine, holder, session: id, unit: null });
  }
  const { machine, holder } = grant.reservation;
  if (!view.machines.get(machine)) return err({ code: 'machine_not_found', machine });
  if (!view.holders.get(holderKey(machine, holder))) return err({ code: 'holder_not_found', machine, holder });
  const foreign = outOfScope(view, grant.scope, { machine, holder }, `holder ${holder} on ${machine}`);
  return foreign ? err(foreign) : ok({ ...grant.reservation, session: null });
}
