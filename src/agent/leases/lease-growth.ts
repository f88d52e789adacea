/** When leases grow, and when they shrink again. Ports are counted toward the busiest destination. */
export type GrowthPolicy = Readonly<{
  /** All leases of the claim together. */
  ports_max: number;
  /** The share of the ports in use from which on there are to be more, */
  high_water: number;
  /** and from which down some are given back. */
  low_water: number;
  /** Ports of one more lease. */
  step_ports: number;
  /** How long use has to stay low before a lease is drained. */
  hold_s: number;
  /** How long a lease is drained before it is given back with the flows that it has still. */
  drain_s: number;
}>;

/** A lease that was added, and can be given back. */
export type AddedLease = Readonly<{
  lease: string;
  ports: number;
  flows: number;
  /** Since when it gets no new flows, in milliseconds; null while it does. */
  drainingSince: number | null;
}>;

/** What was seen at earlier looks. Times are milliseconds of the clock of `now`. */
export type GrowthMemory = Readonly<{
  lowSince: number | null;
  /** Refused flows that are accounted for; null before the first look. */
  refused: number | null;
  /** The server gave nothing: not to be asked before. */
  retryAt: number;
}>;

export const freshMemory: GrowthMemory = { lowSince: null, refused: null, retryAt: 0 };

/**
 * `base`: ports of the lease that is never given back; `elsewhere`: of leases that other claims have for the same protocol.
 * `busiest`, `refused`: see `ProtocolUse`.
 */
export type ClaimUse = Readonly<{ base: number; elsewhere: number; busiest: number; refused: number }>;

export type LeasePlan = Readonly<{
  /** Leases to ask for, of `step_ports` each. */
  grow: number;
  drain: string | null;
  /** Gets new flows again. */
  reopen: string | null;
  release: readonly string[];
  /** More ports are needed, */
  isPressed: boolean;
  /** and there are as many as there may be. */
  atMax: boolean;
  memory: GrowthMemory;
}>;

/** Leases that are asked for at one look: what is missing then, the next look sees. */
const grow_at_once_max = 8;

/**
 * What to do about the leases of one claim. It grows before new flows are refused, by as much as brings use below the high
 * mark; a lease that is drained is taken back first, as it costs nothing. It shrinks by one lease at a time, the one with the
 * fewest flows, and only where use would stay below the middle of both marks without it: so it never swings.
 */
export function planLeases(
  use: ClaimUse,
  leases: readonly AddedLease[],
  policy: GrowthPolicy,
  memory: GrowthMemory,
  now: number,
): LeasePlan {
  const { ports_max, high_water, low_water, step_ports, hold_s } = policy;
  const total = use.base + sum(leases);
  const open = use.base + use.elsewhere + sum(leases.filter(({ drainingSince }) => drainingSince === null));
  const wasRefused = memory.refused !== null && use.refused > memory.refused;
  const seen = { ...memory, refused: use.refused };
  const nothing = { grow: 0, drain: null, reopen: null, release: [], isPressed: false, atMax: false };
  if (wasRefused || use.busiest >= high_water * open) {
    const pressed = { ...nothing, isPressed: true, memory: { ...seen, lowSince: null } };
    const [reopen] = leases.filter(({ drainingSince }) => drainingSince !== null).toSorted((a, b) => b.ports - a.ports);
    if (reopen) return { ...pressed, reopen: reopen.lease };
    const room = Math.floor((ports_max - total) / step_ports);
    if (room < 1) return { ...pressed, atMax: true };
    if (now < memory.retryAt) return pressed;
    const missing = Math.ceil((use.busiest / high_water - open) / step_ports);
    return { ...pressed, grow: Math.min(room, grow_at_once_max, Math.max(1, missing)) };
  }
  const release = leases.filter((lease) => isDrained(lease, policy, now)).map(({ lease }) => lease);
  if (use.busiest > low_water * open) return { ...nothing, release, memory: { ...seen, lowSince: null } };
  const lowSince = memory.lowSince ?? now;
  if (now - lowSince < hold_s * 1_000) return { ...nothing, release, memory: { ...seen, lowSince } };
  const middle = (high_water + low_water) / 2;
  const [drain] = leases
    .filter(({ ports, drainingSince }) => drainingSince === null && use.busiest <= middle * (open - ports))
    .toSorted((a, b) => a.flows - b.flows);
  // One at a time, and the next one no sooner than after as long a rest.
  const isBusy = leases.some(({ drainingSince }) => drainingSince !== null);
  if (!drain || isBusy) return { ...nothing, release, memory: { ...seen, lowSince } };
  return { ...nothing, release, drain: drain.lease, memory: { ...seen, lowSince: now } };
}

const sum = (leases: readonly AddedLease[]): number => leases.reduce((ports, lease) => ports + lease.ports, 0);

const isDrained = ({ flows, drainingSince }: AddedLease, { drain_s }: GrowthPolicy, now: number): boolean =>
  drainingSince !== null && (flows === 0 || now - drainingSince >= drain_s * 1_000);
