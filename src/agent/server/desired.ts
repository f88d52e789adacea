import { parseAddress } from '../../net/address.ts';
import { parsePrefix, prefixContains, type Prefix } from '../../net/prefix.ts';
import type { BlockedPorts, Change, Desired, DesiredPool } from '../../wire/agent.ts';
import type { Lease } from '../../wire/leases.ts';
import type { Holder } from '../../wire/machines.ts';
import type { Revocation } from '../../wire/revocations.ts';
import type { Slice } from '../../wire/slices.ts';

/** What a fold touched, so that whoever acts on it looks at that and not at everything. */
export type Touched = Readonly<{
  /** Pools, slices or the families of addresses: what the whole host depends on. */
  host: boolean;
  /** Leases whose state, or whose holder, is another now; also those that are gone. */
  leases: readonly string[];
  /** A snapshot replaced everything: what was believed about any lease counts no more. */
  everything: boolean;
}>;

/** That are remembered; whoever has to know of one is told long before as many came after it. */
const revocations_max = 1_000;

const untouched: Touched = { host: false, leases: [], everything: false };
const touchedHost: Touched = { ...untouched, host: true };

/** Whether the revocation ends a lease; what was granted later, it does not know of. */
function coveredBy({
  id,
  machine,
  holder,
  pools,
  prefix,
  session,
  slice,
  lease: only,
}: Revocation): (lease: Lease) => boolean {
  const before = numberOf(id);
  const within = prefix === null ? null : parsePrefix(prefix);
  return (lease) =>
    numberOf(lease.id) < before &&
    (only === null || only === lease.id) &&
    (machine === null || machine === lease.machine) &&
    (holder === null || holder === lease.holder) &&
    (pools === null || pools.includes(lease.pool)) &&
    (session === null || session === lease.session) &&
    (slice === null || slice === lease.slice) &&
    (within === null || (within.ok && isWithin(within.value, lease.address)));
}

/** `lease-42` → 42: the revision at which it came to be. */
const numberOf = (id: string): number => Number(id.slice(id.indexOf('-') + 1));

function isWithin(prefix: Prefix, address: string): boolean {
  const parsed = parseAddress(address);
  return parsed.ok && prefixContains(prefix, parsed.value);
}

export const keyOfBlocked = ({ slice, protocol, ports }: BlockedPorts): string =>
  `${slice}/${protocol}/${ports.first}-${ports.last}`;

/** A lease here is one of these; every other state means that it is over and gone from the table. */
export const onHostStates: readonly string[] = ['pending', 'active', 'ending'] satisfies Lease['state'][];
const sliceStates: readonly string[] = ['assigning', 'assigned', 'draining'] satisfies Slice['state'][];

/**
 * What this machine has to make true: a snapshot, and every change since. No I/O and no clock: the same snapshot and the
 * same changes always come to the same.
 *
 * The end of a session ends its leases, with no change for each of them. A change that is not newer than what is known
 * is ignored: it was seen already, or belongs to a server that lost its end.
 */
export class DesiredMachine {
  readonly machine: string;
  #epoch = '';
  #revision = 0;
  #fence_s = 0;
  #state: string | null = null;
  readonly #pools = new Map<string, readonly string[]>();
  readonly #poolTerms = new Map<string, DesiredPool>();
  readonly #slices = new Map<string, Slice>();
  readonly #holders = new Map<string, Holder>();
  readonly #leases = new Map<string, Lease>();
  readonly #blocked = new Map<string, BlockedPorts>();
  /** By their numbers. */
  readonly #revocations = new Map<number, Revocation>();
  readonly #bySession = new Map<string, Set<string>>();
  /** Ended ones that still have leases here: a change of such a lease must not bring it to life again. */
  readonly #endedSessions = new Map<string, NonNullable<Lease['ending']>>();

  constructor(machine: string) {
    this.machine = machine;
  }

  get epoch(): string {
    return this.#epoch;
  }
  /** Everything up to here is folded in. */
  get revision(): number {
    return this.#revision;
  }
  /** As a source of leases: the same for each of them. */
  revisionOf(_lease: string): number {
    return this.#revision;
  }
  get fence_s(): number {
    return this.#fence_s;
  }
  /** null before the first snapshot. */
  get state(): string | null {
    return this.#state;
  }
  /** Prefixes by pool; all of them are guarded. */
  get pools(): ReadonlyMap<string, readonly string[]> {
    return this.#pools;
  }
  /** All that the server says of each of them. */
  get poolTerms(): ReadonlyMap<string, DesiredPool> {
    return this.#poolTerms;
  }
  /** `assigning`, `assigned` and `draining` ones. */
  get slices(): ReadonlyMap<string, Slice> {
    return this.#slices;
  }
  get holders(): ReadonlyMap<string, Holder> {
    return this.#holders;
  }
  /** `pending`, `active` and `ending` ones. */
  get leases(): ReadonlyMap<string, Lease> {
    return this.#leases;
  }

  /** Ports of its slices that a stranger kept a lease from, by `keyOfBlocked`. */
  get blocked(): ReadonlyMap<string, BlockedPorts> {
    return this.#blocked;
  }

  /** Those that are about more than a slice, for whoever grants here beside the server; the oldest first. */
  get revocations(): readonly Revocation[] {
    return [...this.#revocations.values()];
  }

  /** The strangers are gone, as far as this host can say; the server is told. */
  unblock(places: readonly BlockedPorts[]): void {
    for (const place of places) this.#blocked.delete(keyOfBlocked(place));
  }

  /** Everything known, as the server says it in a snapshot. */
  snapshot(): Omit<Desired, 'state'> & Readonly<{ state: string | null }> {
    return {
      epoch: this.#epoch,
      revision: this.#revision,
      machine: this.machine,
      state: this.#state,
      fence_s: this.#fence_s,
      pools: [...this.#poolTerms.values()],
      slices: [...this.#slices.values()],
      holders: [...this.#holders.values()],
      leases: [...this.#leases.values()],
      blocked: [...this.#blocked.values()],
      revocations: [...this.#revocations.values()],
    };
  }

  /** Takes a snapshot in place of everything known. */
  reset(snapshot: Desired): Touched {
    const before = [...this.#leases.keys()];
    this.#epoch = snapshot.epoch;
    this.#revision = snapshot.revision;
    this.#fence_s = snapshot.fence_s;
    this.#state = snapshot.state;
    this.#poolTerms.clear();
    for (const map of [this.#pools, this.#slices, this.#holders, this.#leases, this.#bySession, this.#endedSessions])
      map.clear();
    for (const pool of snapshot.pools) this.#setPool(pool);
    for (const slice of snapshot.slices) this.#slices.set(slice.id, slice);
    for (const holder of snapshot.holders) this.#holders.set(holder.name, holder);
    for (const lease of snapshot.leases) this.#setLease(lease);
    this.#revocations.clear();
    for (const revocation of snapshot.revocations) this.#revocations.set(numberOf(revocation.id), revocation);
    this.#blocked.clear();
    for (const place of snapshot.blocked) this.#blocked.set(keyOfBlocked(place), place);
    return { host: true, everything: true, leases: [...new Set([...before, ...this.#leases.keys()])] };
  }

  /** Nothing for this machine happened up to `revision`. */
  reach(revision: number): void {
    this.#revision = Math.max(this.#revision, revision);
  }

  apply(change: Change): Touched {
    if (change.revision <= this.#revision) return untouched;
    this.#revision = change.revision;
    switch (change.kind) {
      case 'pool':
        this.#setPool(change.pool);
        return touchedHost;
      case 'deleted':
        if (change.what === 'holder' && change.machine === this.machine) return this.#dropHolder(change.id);
        if (change.what === 'pool') this.#poolTerms.delete(change.id);
        return change.what === 'pool' && this.#pools.delete(change.id) ? touchedHost : untouched;
      case 'machine':
        if (change.machine !== this.machine) return untouched;
        this.#fence_s = change.fence_s;
        this.#state = change.state;
        return untouched;
      case 'holder':
        return this.#applyHolder(change.holder);
      case 'slice':
        return this.#applySlice(change.slice);
      case 'session':
        return change.session.machine === this.machine && change.session.state === 'ended'
          ? this.#endSession(change.session.id, change.session.ending ?? 'revoked')
          : untouched;
      case 'lease':
        return this.#applyLease(change.lease);
      case 'revocation':
        return this.#applyRevocation(change.revocation);
    }
  }

  #setPool(pool: DesiredPool): void {
    this.#pools.set(pool.id, pool.prefixes);
    this.#poolTerms.set(pool.id, pool);
  }

  #applyHolder(holder: Holder): Touched {
    if (holder.machine !== this.machine) return untouched;
    const before = this.#holders.get(holder.name);
    this.#holders.set(holder.name, holder);
    if (before && before.uid === holder.uid && before.kind === holder.kind) return untouched;
    const leases = [...this.#leases.values()].filter((lease) => lease.holder === holder.name);
    return { ...untouched, leases: leases.map((lease) => lease.id) };
  }

  /** Nothing lives of it any more: its user has no right to ports, whatever this host may have missed. */
  #dropHolder(name: string): Touched {
    this.#holders.delete(name);
    const leases = [...this.#leases.values()].filter((lease) => lease.holder === name).map(({ id }) => id);
    for (const id of leases) this.#dropLease(id);
    return { ...untouched, leases };
  }

  #applySlice(slice: Slice): Touched {
    const isOurs = slice.machine === this.machine && sliceStates.includes(slice.state) && !slice.reclaimed;
    for (const place of [...this.#blocked.values()])
      if (place.slice === slice.id && (!isOurs || place.generation !== slice.generation)) this.unblock([place]);
    if (isOurs) {
      this.#slices.set(slice.id, slice);
      return touchedHost;
    }
    // One that went to another machine, or to nobody.
    if (!this.#slices.delete(slice.id)) return untouched;
    // It was taken back while this machine was out of reach, or taken for it: so was all that is in it.
    const gone = slice.reclaimed ? [...this.#leases.values()].filter((lease) => lease.slice === slice.id) : [];
    for (const lease of gone) this.#dropLease(lease.id);
    return { ...touchedHost, leases: gone.map(({ id }) => id) };
  }

  #endSession(session: string, ending: NonNullable<Lease['ending']>): Touched {
    const ids = [...(this.#bySession.get(session) ?? [])];
    if (ids.length > 0) this.#endedSessions.set(session, ending);
    for (const id of ids) {
      const lease = this.#leases.get(id);
      if (lease && lease.state !== 'ending') this.#leases.set(id, { ...lease, state: 'ending', ending });
    }
    return { ...untouched, leases: ids };
  }

  #applyRevocation(revocation: Revocation): Touched {
    if (revocation.slice === null) {
      this.#revocations.set(numberOf(revocation.id), revocation);
      const [oldest] = this.#revocations.keys();
      if (this.#revocations.size > revocations_max && oldest !== undefined) this.#revocations.delete(oldest);
    }
    if (revocation.state !== 'ending') return untouched;
    const covered = [...this.#leases.values()].filter(coveredBy(revocation));
    const forced = revocation.forced ? { forced: true as const } : {};
    for (const lease of covered) {
      // Reclaimed: this machine has no say in it any more, and no ports.
      if (revocation.ending === 'fenced') this.#dropLease(lease.id);
      else if (lease.state !== 'ending')
        this.#leases.set(lease.id, { ...lease, state: 'ending', ending: revocation.ending, ...forced });
      else if (revocation.forced) this.#leases.set(lease.id, { ...lease, ...forced });
    }
    return { ...untouched, leases: covered.map(({ id }) => id) };
  }

  #applyLease(lease: Lease): Touched {
    if (lease.machine !== this.machine) return untouched;
    if (lease.state === 'refused') this.#block(lease);
    if (onHostStates.includes(lease.state)) this.#setLease(lease);
    else if (!this.#dropLease(lease.id)) return untouched;
    return { ...untouched, leases: [lease.id] };
  }

  #block({ slice, protocol, ports }: Lease): void {
    const generation = this.#slices.get(slice)?.generation;
    if (generation === undefined) return;
    const place = { slice, generation, protocol, ports };
    this.#blocked.set(keyOfBlocked(place), place);
  }

  #setLease(lease: Lease): void {
    const ending = lease.session === null ? undefined : this.#endedSessions.get(lease.session);
    const isOver = ending !== undefined && lease.state !== 'ending';
    this.#leases.set(lease.id, isOver ? { ...lease, state: 'ending', ending } : lease);
    if (lease.session === null) return;
    const siblings = this.#bySession.get(lease.session);
    if (siblings) siblings.add(lease.id);
    else this.#bySession.set(lease.session, new Set([lease.id]));
  }

  #dropLease(id: string): boolean {
    const lease = this.#leases.get(id);
    this.#leases.delete(id);
    if (lease?.session == null) return lease !== undefined;
    const siblings = this.#bySession.get(lease.session);
    siblings?.delete(id);
    if (siblings?.size === 0) {
      this.#bySession.delete(lease.session);
      this.#endedSessions.delete(lease.session);
    }
    return true;
  }
}
