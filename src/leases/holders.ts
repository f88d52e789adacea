import { err, ok } from '../net/result.ts';
import { leaseInEffect } from './endings.ts';
import type { LeaseError } from './errors.ts';
import { hasOccupants, holderKey, type Holder } from './model.ts';
import { limits as bounds } from './limits.ts';
import { sameLimits } from './quotas.ts';
import { staleRevision } from './revisions.ts';
import { endToken } from './tokens.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

/** Who uses ports on a machine. */

export const putHolder: UseCase<'putHolder'> = {
  *needs({ machine, name, uid = null, cgroup = null, limits = null }, { view }) {
    yield [
      { need: 'machine', id: machine },
      { need: 'holder', machine, name },
      ...(uid === null ? [] : [{ need: 'holderByUid', machine, uid } as const]),
      ...(cgroup === null ? [] : [{ need: 'holdersInCgroups', machine } as const]),
    ];
    if (limits !== null && view.machines.get(machine)?.limitedHolders === 0) yield [{ need: 'heldRecount', machine }];
  },

  decide({ machine: id, name, holderKind: kind, ifRevision, ...said }, { view }) {
    const machine = view.machines.get(id);
    if (!machine) return err({ code: 'machine_not_found', machine: id });
    const found = view.holders.get(holderKey(id, name));
    const stale = staleRevision(`holder "${name}" on "${id}"`, ifRevision, found?.revision ?? null);
    if (stale) return err(stale);
    const { limits = found?.limits ?? null } = said;
    const { uid, cgroup } = identityOf(said, found);
    // The guard on the host tells proxies apart by the user id or the cgroup of their sockets, and by nothing else.
    if (machine.enforcement === 'agent' && kind !== 'fish' && uid === null && cgroup === null)
      return err({ code: 'holder_needs_identity', machine: id, holder: name });
    if (found && found.kind !== kind)
      return err({ code: 'holder_kind_fixed', machine: id, holder: name, kind: found.kind });
    const isSameUid = found?.uid === uid;
    const isSameCgroup = found?.cgroup === cgroup;
    if (isSameUid && isSameCgroup && sameLimits(found.limits, limits)) return ok(found);
    // Also where no agent is yet: an agent that comes later must find holders that it can tell apart.
    if (uid === 0) return err({ code: 'holder_uid_root', machine: id, holder: name });
    const other = uid === null || isSameUid ? undefined : view.holderByUid(id, uid);
    if (uid !== null && other && other.name !== name)
      return err({ code: 'holder_uid_taken', machine: id, holder: name, uid, other: other.name });
    const around = cgroup === null || isSameCgroup ? undefined : view.holderAroundCgroup(id, cgroup, name);
    if (cgroup !== null && around?.cgroup != null) {
      const taken = { cgroup, other: around.name, otherCgroup: around.cgroup };
      return err({ code: 'holder_cgroup_taken', machine: id, holder: name, ...taken });
    }
    const limited = machine.limitedHolders + Number(limits !== null) - Number((found?.limits ?? null) !== null);
    if (limited > Math.max(machine.limitedHolders, bounds.limited_holders_max))
      return err({ code: 'limited_holders_exceeded', machine: id, max: bounds.limited_holders_max });
    // No news to anybody: the holder is.
    if (limited !== machine.limitedHolders) view.machines.put({ ...machine, limitedHolders: limited });
    if (limited > 0 && machine.limitedHolders === 0) view.beginCounting(id);
    const sticky = found?.sticky ?? { v4: null, v6: null };
    const { holder } = view.log(id, (revision, at) => {
      const born = { createdAt: found?.createdAt ?? at, updatedAt: at, revision };
      return { kind: 'holder', holder: { machine: id, name, kind, uid, cgroup, limits, sticky, ...born } };
    });
    view.holders.put(holder);
    return ok(holder);
  },
};

/** By what the guard is to know it: what is given takes the place of the other, what is left out stays. */
function identityOf(
  said: Readonly<{ uid?: number | null; cgroup?: string | null }>,
  found: Holder | undefined,
): Pick<Holder, 'uid' | 'cgroup'> {
  const { uid = said.cgroup == null ? (found?.uid ?? null) : null } = said;
  const { cgroup = said.uid == null ? (found?.cgroup ?? null) : null } = said;
  return { uid, cgroup };
}

/**
 * Only one that nobody uses ports by any more; those of its past rest without it. Who had them stays known, and its name
 * may come back for another.
 */
export const deleteHolder: UseCase<'deleteHolder'> = {
  *needs({ machine, name }) {
    yield [
      { need: 'machine', id: machine },
      { need: 'holder', machine, name },
      { need: 'sessionOfHolder', machine, holder: name },
      { need: 'leaseOfHolder', machine, holder: name },
      { need: 'endingRevocations' },
      { need: 'machineTokens', machine },
    ];
  },

  decide({ machine: id, name, ifRevision }, { view }) {
    const machine = view.machines.get(id);
    if (!machine) return err({ code: 'machine_not_found', machine: id });
    const holder = view.holders.get(holderKey(id, name));
    if (!holder) return err({ code: 'holder_not_found', machine: id, holder: name });
    const stale = staleRevision(`holder "${name}" on "${id}"`, ifRevision, holder.revision);
    if (stale) return err(stale);
    const use = useOf(view, holder);
    if (use) return err(use);
    for (const token of [...view.accessTokens.values()])
      if (token.machine === id && token.holder === name) endToken(view, token);
    // No news to anybody: the holder is.
    if (holder.limits !== null) view.machines.put({ ...machine, limitedHolders: machine.limitedHolders - 1 });
    view.log(id, () => ({ kind: 'deleted', what: 'holder', id: name }));
    view.holders.remove(holderKey(id, name));
    return ok(holder);
  },
};

/** What lives of the holder, if anything does. The leases of a session that is live have their right by it. */
function useOf(view: View, { machine, name }: Holder): LeaseError | undefined {
  const isIts = (row: Readonly<{ machine: string; holder: string }>) => row.machine === machine && row.holder === name;
  const inUse = (item: string, state: string) =>
    ({ code: 'holder_in_use', machine, holder: name, item, state }) satisfies LeaseError;
  for (const session of view.sessions.values())
    if (isIts(session) && !session.settled)
      // Its leases are ending, though their own rows may not say so yet.
      return inUse(`session-${session.id}`, session.state === 'live' ? 'live' : 'ending');
  for (const lease of view.leases.values())
    if (isIts(lease) && hasOccupants(lease))
      return inUse(
        `lease-${lease.id}`,
        (lease.state === 'ending' ? lease : leaseInEffect(view, lease.id))?.state ?? '',
      );
  return undefined;
}
