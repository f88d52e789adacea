import { err, ok } from '../net/result.ts';
import { holderKey } from './model.ts';
import { limits as bounds } from './limits.ts';
import { sameLimits } from './quotas.ts';
import { staleRevision } from './revisions.ts';
import type { UseCase } from './use-case.ts';

/** Who uses ports on a machine. */

export const putHolder: UseCase<'putHolder'> = {
  *needs({ machine, name, uid = null, limits = null }, { view }) {
    yield [
      { need: 'machine', id: machine },
      { need: 'holder', machine, name },
      ...(uid === null ? [] : [{ need: 'holderByUid', machine, uid } as const]),
    ];
    if (limits !== null && view.machines.get(machine)?.limitedHolders === 0) yield [{ need: 'heldRecount', machine }];
  },

  decide({ machine: id, name, holderKind: kind, ifRevision, ...said }, { view }) {
    const machine = view.machines.get(id);
    if (!machine) return err({ code: 'machine_not_found', machine: id });
    const found = view.holders.get(holderKey(id, name));
    const stale = staleRevision(`holder "${name}" on "${id}"`, ifRevision, found?.revision ?? null);
    if (stale) return err(stale);
    const { uid = found?.uid ?? null, limits = found?.limits ?? null } = said;
    // The guard on the host tells proxies apart by the user id of their sockets, and by nothing else.
    if (machine.enforcement === 'agent' && kind === 'proxy' && uid === null)
      return err({ code: 'holder_needs_uid', machine: id, holder: name });
    if (found && found.kind !== kind)
      return err({ code: 'holder_kind_fixed', machine: id, holder: name, kind: found.kind });
    const isSameUid = found?.uid === uid;
    if (isSameUid && sameLimits(found.limits, limits)) return ok(found);
    // Also where no agent is yet: an agent that comes later must find holders that it can tell apart.
    if (uid === 0) return err({ code: 'holder_uid_root', machine: id, holder: name });
    const other = uid === null || isSameUid ? undefined : view.holderByUid(id, uid);
    if (uid !== null && other && other.name !== name)
      return err({ code: 'holder_uid_taken', machine: id, holder: name, uid, other: other.name });
    const limited = machine.limitedHolders + Number(limits !== null) - Number((found?.limits ?? null) !== null);
    if (limited > Math.max(machine.limitedHolders, bounds.limited_holders_max))
      return err({ code: 'limited_holders_exceeded', machine: id, max: bounds.limited_holders_max });
    // No news to anybody: the holder is.
    if (limited !== machine.limitedHolders) view.machines.put({ ...machine, limitedHolders: limited });
    if (limited > 0 && machine.limitedHolders === 0) view.beginCounting(id);
    const sticky = found?.sticky ?? { v4: null, v6: null };
    const { holder } = view.log(id, (revision, at) => {
      const born = { createdAt: found?.createdAt ?? at, updatedAt: at, revision };
      return { kind: 'holder', holder: { machine: id, name, kind, uid, limits, sticky, ...born } };
    });
    view.holders.put(holder);
    return ok(holder);
  },
};
