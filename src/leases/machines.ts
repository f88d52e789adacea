import { err, ok, type Result } from '../net/result.ts';
import type { Address } from '../net/address.ts';
import { noAgentFor } from './allocators.ts';
import type { Commands } from './commands.ts';
import { endDoubtIfAllTold, epochNeeds, hasAppliedLost } from './epochs.ts';
import type { LeaseError } from './errors.ts';
import { takenUntil } from './guard-shut.ts';
import { holderKey, sameLabels, type Machine, type Want } from './model.ts';
import { together, type Needs } from './needs.ts';
import { staleRevision } from './revisions.ts';
import { endToken } from './tokens.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';
import { sameWants, shortageNeeds, shortagesOf } from './wants.ts';

export const createMachine: UseCase<'createMachine'> = {
  *needs({ id, wants = [] }) {
    yield [{ need: 'machine', id }, ...(wants.length > 0 ? shortageNeeds(id) : [])];
  },

  decide({ id, labels, enforcement, fenceUs, mark = null, nextHops = [], wants = [] }, { view, now }) {
    if (view.machines.get(id)) return err({ code: 'machine_exists', machine: id });
    const wanted = wantedOf(view, { id, enforcement }, wants, now);
    if (!wanted.ok) return wanted;
    return ok(
      putMachine(view, id, (revision, at) => {
        const born = { createdAt: at, updatedAt: at, revision };
        const state = { state: 'active', intent: 'active', drainBy: null, settled: true, ...wanted.value } as const;
        return {
          id,
          labels,
          enforcement,
          ...state,
          fenceUs,
          mark,
          nextHops,
          limitedHolders: 0,
          ownSlices: 0,
          agent: null,
          ...born,
        };
      }),
    );
  },
};

export const updateMachine: UseCase<'updateMachine'> = {
  *needs({ id, wants = [] }) {
    yield [{ need: 'machine', id }, ...(wants.length > 0 ? shortageNeeds(id) : [])];
  },

  decide(input, context) {
    const { view, now } = context;
    const machine = view.machines.get(input.id);
    if (!machine) return err({ code: 'machine_not_found', machine: input.id });
    const stale = staleRevision(`machine "${machine.id}"`, input.ifRevision, machine.revision);
    if (stale) return err(stale);
    const { labels = machine.labels, mark = machine.mark, nextHops = machine.nextHops } = input;
    const { fenceUs = machine.fenceUs } = input;
    const standing = standingOf(machine, input, context);
    const { state, intent, drainBy } = standing;
    // What changes nothing is no news: the log stays quiet.
    const isSameWay = mark === machine.mark && fenceUs === machine.fenceUs && sameAddresses(nextHops, machine.nextHops);
    const isSameState = state === machine.state && intent === machine.intent && drainBy === machine.drainBy;
    const isSameWants = input.wants === undefined || sameWants(input.wants, machine.wants);
    if (isSameState && sameLabels(labels, machine.labels) && isSameWay && isSameWants) return ok(machine);
    const wanted = isSameWants ? ok({}) : wantedOf(view, machine, input.wants ?? [], now);
    if (!wanted.ok) return wanted;
    const change = { ...standing, ...wanted.value, labels, mark, nextHops, fenceUs };
    return ok(putMachine(view, machine.id, (revision, at) => ({ ...machine, ...change, updatedAt: at, revision })));
  },
};

/** What a machine is to have, and what it is short of as it is. */
function wantedOf(
  view: View,
  machine: Pick<Machine, 'id' | 'enforcement'>,
  wants: readonly Want[],
  now: number,
): Result<Pick<Machine, 'wants' | 'wanting'>, LeaseError> {
  const missing = wants.length > 0 ? shortagesOf(view, machine.id, wants) : [];
  for (const { pool, allocator } of wants) {
    const nobody = noAgentFor(machine, allocator);
    if (nobody) return err(nobody);
    const isThere = pool === null || [...view.pools.values()].some((one) => one.id === pool);
    if (!isThere) return err({ code: 'pool_not_found', pool });
  }
  return ok({ wants, wanting: { lookAt: wants.length > 0 ? now : null, missing } });
}

type Standing = Pick<Machine, 'state' | 'intent' | 'drainBy' | 'settled'>;

/** How a machine stands when an operator has said what it is to be. Of several deadlines to drain the earliest counts. */
function standingOf(
  machine: Machine,
  { state: intent = machine.intent, drainDeadlineUs = null }: Commands['updateMachine']['input'],
  context: Context,
): Standing {
  const isDraining = intent === 'draining';
  const former = isDraining && machine.intent === 'draining' ? machine.drainBy : null;
  const deadline = isDraining && drainDeadlineUs !== null ? context.now + drainDeadlineUs : null;
  const drainBy = former === null || deadline === null ? (former ?? deadline) : Math.min(former, deadline);
  const isSame = intent === machine.intent && drainBy === machine.drainBy;
  const settled = isSame ? machine.settled : !isDraining && intent !== 'lost';
  if (intent === 'lost') return { state: 'lost', intent, drainBy, settled };
  // What an operator says does not bring an agent back.
  const isSilent = machine.state === 'fenced' || (machine.state === 'lost' && hasFallenSilent(machine, context));
  return { state: isSilent ? 'fenced' : intent, intent, drainBy, settled };
}

const hasFallenSilent = ({ enforcement, agent, fenceUs }: Machine, { now, startedAt }: Context): boolean =>
  enforcement === 'agent' && agent !== null && now >= Math.max(agent.seenAt, startedAt) + fenceUs;

/** Only a machine that nothing lives on. Who had ports there in the past stays known; its name may come back for another. */
export const deleteMachine: UseCase<'deleteMachine'> = {
  *needs({ id }) {
    yield [
      { need: 'machine', id },
      { need: 'ownedByMachine', machine: id },
      { need: 'liveSession', machine: id },
      { need: 'machineHolders', machine: id },
      { need: 'machineTokens', machine: id },
    ];
  },

  decide({ id, ifRevision }, { view }) {
    const machine = view.machines.get(id);
    if (!machine) return err({ code: 'machine_not_found', machine: id });
    const stale = staleRevision(`machine "${id}"`, ifRevision, machine.revision);
    if (stale) return err(stale);
    for (const { id: slice, machine: of, state } of view.slices.values())
      if (of === id) return err({ code: 'machine_in_use', machine: id, item: `slice-${slice}`, state });
    for (const { id: session, machine: of, state } of view.sessions.values())
      if (of === id && state === 'live')
        return err({ code: 'machine_in_use', machine: id, item: `session-${session}`, state });
    for (const token of [...view.accessTokens.values()]) if (token.machine === id) endToken(view, token);
    for (const holder of [...view.holders.values()])
      if (holder.machine === id) view.holders.remove(holderKey(id, holder.name));
    // Told to everybody: whoever follows this machine alone hears of it, too.
    view.log(null, () => ({ kind: 'deleted', what: 'machine', id }));
    view.machines.remove(id);
    return ok(machine);
  },
};

/** One row and no event: it says that the agent lives, not that anything changed. */
export const agentKeepalive: UseCase<'agentKeepalive'> = {
  *needs({ machine }, { view }) {
    yield* together([machineNeeds(machine), epochNeeds(view, machine)]);
  },

  decide({ machine: id, bootId, version, appliedRevision }, context) {
    const { view, now } = context;
    const found = view.machines.get(id);
    if (!found) return err({ code: 'machine_not_found', machine: id });
    // An answer would open its guard, against the word of an operator that others go by.
    if (found.state === 'lost') return err({ code: 'machine_lost', machine: id });
    const takenTo = takenUntil(found, bootId, context);
    if (takenTo !== undefined) return err({ code: 'machine_taken', machine: id, at: takenTo });
    // It can have been reclaimed from since; the table may have lost that.
    if (view.isInDoubt && found.state === 'fenced')
      return err({ code: 'read_only_epoch', epoch: view.epoch, isConfirmed: false });
    if (hasAppliedLost(view, appliedRevision))
      return err({ code: 'machine_behind', machine: id, revision: view.epochs.get(view.epoch)?.from ?? 0 });
    // In doubt it is how a table learns what it lacks: stored, it keeps the doubt from ending by itself.
    if (appliedRevision > view.revision && !view.isInDoubt)
      return err({ code: 'revision_unknown', revision: appliedRevision, newest: view.revision });
    const mustApply = found.agent?.mustApply ?? 0;
    // The answer would open the guard for ports that may be another machine's by now.
    if (appliedRevision < mustApply) return err({ code: 'machine_behind', machine: id, revision: mustApply });
    const machine = { ...found, agent: { bootId, version, seenAt: now, appliedRevision, mustApply } };
    if (machine.state === 'fenced')
      putMachine(view, id, (revision, at) => ({ ...machine, state: machine.intent, updatedAt: at, revision }));
    else view.machines.put(machine);
    endDoubtIfAllTold(view, machine);
    return ok({ revision: view.revision, fenceUs: machine.fenceUs });
  },
};

function* machineNeeds(id: string): Needs {
  yield [{ need: 'machine', id }];
}

/**
 * The guard on the host has shut by now, for want of an answered keepalive. Nothing new is granted there until the agent
 * is back; what it has stays its own, because nobody has proven it empty.
 */
export function fenceMachine(view: View, found: Machine): void {
  const machine = view.machines.get(found.id);
  // Its agent was heard, or an operator said something of it, just before in the same batch.
  if (machine?.state !== found.state || machine.agent?.seenAt !== found.agent?.seenAt) return;
  putMachine(view, machine.id, (revision, at) => ({ ...machine, state: 'fenced', updatedAt: at, revision }));
}

/** Each of its slices has followed. Nobody's news: their own events told it. */
export const noteSettled = (view: View, machine: Machine): void => view.machines.put({ ...machine, settled: true });

function putMachine(view: View, id: string, make: (revision: number, at: number) => Machine): Machine {
  const { subject } = view.log(id, (revision, at) => ({ kind: 'machine', subject: make(revision, at) }));
  view.machines.put(subject);
  return subject;
}

const sameAddresses = (a: readonly Address[], b: readonly Address[]): boolean =>
  a.length === b.length && a.every((address) => b.includes(address));
