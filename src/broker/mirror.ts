import type { Address } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import { isDeepStrictEqual } from 'node:util';
import type { Command, CommandKind } from '../leases/commands.ts';
import type { Holder as HolderRow, HolderLimits, Machine, Pool, Slice as SliceRow } from '../leases/model.ts';
import type { DesiredPool } from '../wire/agent.ts';
import type { Holder } from '../wire/machines.ts';
import { numberOf } from './identifiers.ts';
import { parseInstant } from '../wire/instants.ts';
import type { Revocation } from '../wire/revocations.ts';
import type { Slice } from '../wire/slices.ts';

/** What the server decided about this machine, all of it, as its agent knows it now. */
export type ServerWord = Readonly<{
  machine: string;
  /** `active`, `cordoned` …: anything but active, and nothing is granted. */
  state: string;
  fence_s: number;
  pools: readonly DesiredPool[];
  holders: readonly Holder[];
  /** Those of this machine; of other allocators, too. */
  slices: readonly Slice[];
  /** Of more than a slice, the oldest first. */
  revocations: readonly Revocation[];
}>;

/** The same, as the table on this host has it. `slices`: whatever their state. */
export type Mirrored = Readonly<{
  machine: Machine | undefined;
  pools: ReadonlyMap<string, Pool>;
  holders: ReadonlyMap<string, HolderRow>;
  slices: ReadonlyMap<number, SliceRow>;
}>;

type Step = Command<
  Extract<
    CommandKind,
    | ('createMachine' | 'updateMachine' | 'createPool' | 'updatePool' | 'deletePool' | 'putHolder' | 'deleteHolder')
    | ('adoptSlice' | 'drainSlice' | 'forgoSlice')
  >
>;

/** The same moment by two clocks, in microseconds: nothing that one tells can be compared with what the other tells. */
export type Clocks = Readonly<{
  /** By which the table has its deadlines. */
  hereUs: number;
  /** By which the server tells its own; undefined before it has said what it reads. */
  serverUs: number | undefined;
}>;

const microseconds = (seconds: number): number => Math.round(seconds * 1e6);
/**
 * What is to be done for the table to be as the server says, in order: what goes comes first, and what others hang on before
 * them. Pure, and nothing when nothing differs. A step that is refused (something still lives there) is due again the next
 * time.
 */
export function stepsToward(word: ServerWord, has: Mirrored, clocks: Clocks): readonly Step[] {
  return [
    ...machineSteps(word, has),
    ...goneSlices(word, has),
    ...poolSteps(word, has),
    ...holderSteps(word, has),
    ...sliceSteps(word, has, clocks),
  ];
}

/** Whether nothing lives in this generation of the slice any more, and nothing will. */
export const isOver = ({ generation, state }: SliceRow, of: number): boolean =>
  generation >= of && (state === 'cooling' || state === 'free');

/** Whether it lives in the table under this generation. */
export const isHere = ({ generation, state, reclaimed }: SliceRow, of: number): boolean =>
  generation === of && !reclaimed && (state === 'assigning' || state === 'assigned' || state === 'draining');

/** What of the server's word cannot be true any more, in lines for people: only a server that was restored says it. */
export function contradictions({ machine, slices }: ServerWord, has: Mirrored): readonly string[] {
  return slices.flatMap((slice): readonly string[] => {
    const known = has.slices.get(numberOf(slice.id));
    const isWanted = isOwn(slice, machine) && slice.state !== 'draining';
    if (!isWanted || !known || known.generation < slice.generation) return [];
    const isLeaving = known.generation > slice.generation || known.reclaimed || !isGrantedIn(known);
    return isLeaving
      ? [
          `the server has ${slice.id} ${slice.state} in generation ${slice.generation}, which was given back or is about to be ` +
            '(was the server restored from a backup?): it is told so as soon as nothing lives in it',
        ]
      : [];
  });
}

const isGrantedIn = ({ state }: SliceRow): boolean => state === 'assigning' || state === 'assigned';

/** What cannot be done before the server has said what its clock reads. */
export const waitsForClock = ({ machine, slices }: ServerWord, { serverUs }: Clocks): boolean =>
  serverUs === undefined && slices.some((slice) => isOwn(slice, machine) && slice.drain_by !== null);

function machineSteps({ machine: id, state, fence_s }: ServerWord, { machine }: Mirrored): readonly Step[] {
  // The server drains what it wants drained, slice by slice; here it only matters whether anything is granted.
  const intent = state === 'active' ? 'active' : 'cordoned';
  if (!machine) {
    const made = {
      kind: 'createMachine',
      id,
      labels: {},
      enforcement: 'agent',
      fenceUs: microseconds(fence_s),
    } as const;
    return intent === 'active' ? [made] : [made, { kind: 'updateMachine', id, state: intent }];
  }
  const fenceUs = microseconds(fence_s);
  const isSame = machine.intent === intent && machine.fenceUs === fenceUs;
  return isSame ? [] : [{ kind: 'updateMachine', id, state: intent, fenceUs }];
}

function poolSteps({ pools }: ServerWord, has: Mirrored): readonly Step[] {
  const wanted = new Map(pools.map((pool) => [pool.id, pool]));
  const gone = [...has.pools.values()].filter((pool) => {
    const now = wanted.get(pool.id);
    // One that was deleted and made again under its name is another.
    return !now || now.slice_ports !== pool.slicePorts || !isDeepStrictEqual(now.usable_ports, pool.usablePorts);
  });
  const goneIds = new Set(gone.map(({ id }) => id));
  return [
    ...gone.map(({ id }): Step => ({ kind: 'deletePool', id, ifRevision: null })),
    ...[...wanted.values()].flatMap((pool): readonly Step[] => {
      const known = goneIds.has(pool.id) ? undefined : has.pools.get(pool.id);
      const terms = termsOf(pool);
      if (!known) {
        const size = { slicePorts: pool.slice_ports, usablePorts: pool.usable_ports };
        return [{ kind: 'createPool', id: pool.id, ...size, ...terms }];
      }
      const { labels, prefixes, carveOuts, sharedBlockPorts, cooldownUs } = known;
      const same = isDeepStrictEqual({ labels, prefixes, carveOuts, sharedBlockPorts, cooldownUs }, terms);
      return same ? [] : [{ kind: 'updatePool', id: pool.id, ifRevision: null, ...terms }];
    }),
  ];
}

/** Text from the server is canonical: it was parsed there. */
const termsOf = ({ labels, prefixes, carve_outs, shared_block_ports, cooldown_s }: DesiredPool) => ({
  labels,
  prefixes: prefixes.map((prefix) => prefix as Prefix),
  carveOuts: carve_outs.map(({ prefix, ports }) => ({ prefix: prefix as Prefix, ports })),
  sharedBlockPorts: shared_block_ports,
  cooldownUs: {
    tcp: microseconds(cooldown_s.tcp),
    udp: microseconds(cooldown_s.udp),
    icmp: microseconds(cooldown_s.icmp),
  },
});

function holderSteps({ machine, holders }: ServerWord, has: Mirrored): readonly Step[] {
  const wanted = new Map(holders.map((holder) => [holder.name, holder]));
  const gone = [...has.holders.values()].filter(({ name, kind }) => wanted.get(name)?.kind !== kind);
  return [
    ...gone.map(({ name }): Step => ({ kind: 'deleteHolder', machine, name, ifRevision: null })),
    ...[...wanted.values()].flatMap(({ name, kind, uid, cgroup, limits }): readonly Step[] => {
      const known = has.holders.get(name);
      const terms = { uid, cgroup, limits: limits && limitsOf(limits) };
      const same =
        known?.kind === kind &&
        isDeepStrictEqual({ uid: known.uid, cgroup: known.cgroup, limits: known.limits }, terms);
      return same ? [] : [{ kind: 'putHolder', machine, name, holderKind: kind, ...terms }];
    }),
  ];
}

const limitsOf = ({ ports_min: min, ports_max: max, sessions_max }: NonNullable<Holder['limits']>): HolderLimits => ({
  portsMin: { tcp: min.tcp ?? 0, udp: min.udp ?? 0, icmp: min.icmp ?? 0 },
  portsMax: { tcp: max.tcp ?? null, udp: max.udp ?? null, icmp: max.icmp ?? null },
  sessionsMax: sessions_max ?? null,
});

/** Whether the slice is this machine's to grant in, or to empty. */
export const isOwn = (slice: Slice, machine: string): boolean =>
  slice.allocator === 'machine' &&
  slice.machine === machine &&
  !slice.reclaimed &&
  (slice.state === 'assigning' || slice.state === 'assigned' || slice.state === 'draining');

/** What the server names no more, or under another generation: it was taken back while the machine could not be asked. */
function goneSlices({ machine, slices }: ServerWord, has: Mirrored): readonly Step[] {
  const generations = new Map<number, number>();
  for (const slice of slices) if (isOwn(slice, machine)) generations.set(numberOf(slice.id), slice.generation);
  return [...has.slices.values()].flatMap(({ id, generation, state, reclaimed }): readonly Step[] => {
    const lives = state === 'assigning' || state === 'assigned' || state === 'draining';
    return lives && !reclaimed && generations.get(id) !== generation ? [{ kind: 'forgoSlice', id }] : [];
  });
}

function sliceSteps({ machine, slices }: ServerWord, has: Mirrored, clocks: Clocks): readonly Step[] {
  return slices
    .filter((slice) => isOwn(slice, machine))
    .flatMap((slice): readonly Step[] => {
      const id = numberOf(slice.id);
      const { generation, pool, ports, state } = slice;
      const known = has.slices.get(id);
      const isKnown = known?.generation === generation;
      const place = { id, generation, pool, machine, address: slice.address as Address, ports };
      const adopt: Step = { kind: 'adoptSlice', ...place, state: state === 'assigning' ? state : 'assigned' };
      if (state !== 'draining') {
        const isDue = !isKnown || (known.state === 'assigning' && state === 'assigned');
        return isDue ? [adopt] : [];
      }
      const drain = drainStep(slice, isKnown ? known : undefined, clocks);
      return [...(isKnown ? [] : [adopt]), ...(drain ? [drain] : [])];
    });
}

/** A deadline that is told again is the same to a second: what two clocks read is known no better. */
const deadline_grain_us = 1_000_000;

function drainStep(slice: Slice, known: SliceRow | undefined, { hereUs, serverUs }: Clocks): Step | undefined {
  const { drain_by } = slice;
  const deadlineUs =
    drain_by === null || serverUs === undefined ? null : Math.max(0, parseInstant(drain_by) - serverUs);
  const drain: Step = { kind: 'drainSlice', id: numberOf(slice.id), deadlineUs };
  if (!known || known.state === 'assigning' || known.state === 'assigned') return drain;
  if (known.state !== 'draining' || deadlineUs === null) return undefined;
  return known.drainBy === null || deadlineUs < known.drainBy - hereUs - deadline_grain_us ? drain : undefined;
}
