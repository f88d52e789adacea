import { err, ok } from '../net/result.ts';
import type { Address } from '../net/address.ts';
import { holderKey, sameLabels, type Machine } from './model.ts';
import { staleRevision } from './revisions.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

export const createMachine: UseCase<'createMachine'> = {
  *needs({ id }) {
    yield [{ need: 'machine', id }];
  },

  decide({ id, labels, enforcement, fenceUs, mark = null, nextHops = [] }, { view }) {
    if (view.machines.get(id)) return err({ code: 'machine_exists', machine: id });
    return ok(
      putMachine(view, id, (revision, at) => {
        const born = { createdAt: at, updatedAt: at, revision };
        return { id, labels, enforcement, state: 'active', fenceUs, mark, nextHops, agent: null, ...born };
      }),
    );
  },
};

export const updateMachine: UseCase<'updateMachine'> = {
  *needs({ id }) {
    yield [{ need: 'machine', id }];
  },

  decide(input, { view }) {
    const machine = view.machines.get(input.id);
    if (!machine) return err({ code: 'machine_not_found', machine: input.id });
    const stale = staleRevision(`machine "${machine.id}"`, input.ifRevision, machine.revision);
    if (stale) return err(stale);
    const { state = machine.state, labels = machine.labels, mark = machine.mark, nextHops = machine.nextHops } = input;
    // What changes nothing is no news: the log stays quiet.
    const isSameWay = mark === machine.mark && sameAddresses(nextHops, machine.nextHops);
    if (state === machine.state && sameLabels(labels, machine.labels) && isSameWay) return ok(machine);
    const change = { state, labels, mark, nextHops };
    return ok(putMachine(view, machine.id, (revision, at) => ({ ...machine, ...change, updatedAt: at, revision })));
  },
};

export const putHolder: UseCase<'putHolder'> = {
  *needs({ machine, name, uid }) {
    yield [
      { need: 'machine', id: machine },
      { need: 'holder', machine, name },
      ...(uid === null ? [] : [{ need: 'holderByUid', machine, uid } as const]),
    ];
  },

  decide({ machine: id, name, holderKind: kind, uid }, { view }) {
    const machine = view.machines.get(id);
    if (!machine) return err({ code: 'machine_not_found', machine: id });
    // The guard on the host tells proxies apart by the user id of their sockets, and by nothing else.
    if (machine.enforcement === 'agent' && kind === 'proxy' && uid === null)
      return err({ code: 'holder_needs_uid', machine: id, holder: name });
    const found = view.holders.get(holderKey(id, name));
    if (found && found.kind !== kind)
      return err({ code: 'holder_kind_fixed', machine: id, holder: name, kind: found.kind });
    if (found && found.uid === uid) return ok(found);
    // Also where no agent is yet: an agent that comes later must find holders that it can tell apart.
    if (uid === 0) return err({ code: 'holder_uid_root', machine: id, holder: name });
    const other = uid === null ? undefined : view.holderByUid(id, uid);
    if (uid !== null && other)
      return err({ code: 'holder_uid_taken', machine: id, holder: name, uid, other: other.name });
    const sticky = found?.sticky ?? { v4: null, v6: null };
    const { holder } = view.log(id, (revision, at) => ({
      kind: 'holder',
      holder: { machine: id, name, kind, uid, sticky, createdAt: found?.createdAt ?? at, updatedAt: at, revision },
    }));
    view.holders.put(holder);
    return ok(holder);
  },
};

/** One row and no event: it says that the agent lives, not that anything changed. */
export const agentKeepalive: UseCase<'agentKeepalive'> = {
  *needs({ machine }) {
    yield [{ need: 'machine', id: machine }];
  },

  decide({ machine: id, bootId, version, appliedRevision }, { view, now }) {
    const found = view.machines.get(id);
    if (!found) return err({ code: 'machine_not_found', machine: id });
    const mustApply = found.agent?.mustApply ?? 0;
    // The answer would open the guard for ports that may be another machine's by now.
    if (appliedRevision < mustApply) return err({ code: 'machine_behind', machine: id, revision: mustApply });
    const machine = { ...found, agent: { bootId, version, seenAt: now, appliedRevision, mustApply } };
    if (machine.state === 'fenced')
      putMachine(view, id, (revision, at) => ({ ...machine, state: 'active', updatedAt: at, revision }));
    else view.machines.put(machine);
    return ok({ revision: view.revision, fenceUs: machine.fenceUs });
  },
};

/**
 * The guard on the host has shut by now, for want of an answered keepalive. Nothing new is granted there until the agent
 * is back; what it has stays its own, because nobody has proven it empty.
 */
export function fenceMachine(view: View, machine: Machine): void {
  putMachine(view, machine.id, (revision, at) => ({ ...machine, state: 'fenced', updatedAt: at, revision }));
}

function putMachine(view: View, id: string, make: (revision: number, at: number) => Machine): Machine {
  const { subject } = view.log(id, (revision, at) => ({ kind: 'machine', subject: make(revision, at) }));
  view.machines.put(subject);
  return subject;
}

const sameAddresses = (a: readonly Address[], b: readonly Address[]): boolean =>
  a.length === b.length && a.every((address) => b.includes(address));
