import { portCount, type PortRange } from '../../src/net/ports.ts';
import { prefixContains } from '../../src/net/prefix.ts';
import { matches as selects, type Selector } from '../../src/net/selector.ts';
import { isAbout } from '../../src/leases/audit.ts';
import type { Revocation } from '../../src/leases/model.ts';
import { covers } from '../../src/leases/coverage.ts';
import { limits } from '../../src/leases/limits.ts';
import { isOccupied } from '../../src/leases/reported.ts';
import { inEffect } from '../../src/leases/expiry.ts';
import {
  concerns,
  hasOccupants,
  holderKey,
  type AccessToken,
  type AuditEntry,
  type Epoch,
  type Event,
  type Extent,
  type Interest,
  type Lease,
  type Tenure,
} from '../../src/leases/model.ts';
import type {
  AuditFilter,
  HolderFilter,
  LabelFilter,
  MachineFilter,
  PageOf,
  PageRequest,
  PastLease,
  PastUse,
  PoolFilter,
  PortInstant,
  Reader,
  ReportedLeaseFilter,
  ReportedSessionFilter,
  RouterFilter,
  UsageRow,
  UsesFilter,
  WaitingSlices,
} from '../../src/leases/store.ts';
import type { HeldPorts } from '../../src/leases/changes.ts';
import { byGrant, reportedAt, reportedLeasesOf, reportedPast } from './memory-reported.ts';
import type { Tables } from './memory-store.ts';

/** What there is to read. */
type Source = Readonly<{
  epoch: Epoch;
  tables: Tables;
  events: readonly Event[];
  revision: number;
  historySince: number | null;
}>;

function page<Row>(
  rows: Iterable<Row>,
  keyOf: (row: Row) => string | number,
  { limit, cursor }: PageRequest,
): PageOf<Row> {
  const sorted = [...rows].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const after = sorted.filter((row) => {
    if (cursor === null) return true;
    const key = keyOf(row);
    return typeof key === 'number' ? key > Number(cursor) : key > cursor;
  });
  const items = after.slice(0, limit);
  const last = items.at(-1);
  return { items, next: after.length > limit && last !== undefined ? String(keyOf(last)) : null };
}

const matches = <Row>(row: Row, filter: Partial<Row>): boolean =>
  (Object.keys(filter) as (keyof Row)[]).every((key) => filter[key] === undefined || row[key] === filter[key]);

const bearing =
  (selector: Selector | undefined) =>
  ({ labels }: Readonly<{ labels: Readonly<Record<string, string>> }>): boolean =>
    selector === undefined || selects(selector, labels);

type Owned = Readonly<{ pool?: string; machine: string | null }>;

/** Reads of everything, from maps. */
export class MemoryReader implements Reader {
  readonly #store: Source;

  constructor(store: Source) {
    this.#store = store;
  }

  epoch = async () => this.#store.epoch;
  epochs = async () => [...this.#store.tables.epochs.values()];
  revision = async () => this.#store.revision;
  router = async (id: string) => this.#store.tables.routers.get(id);
  async routers({ labels }: RouterFilter, request: PageRequest) {
    return page([...this.#store.tables.routers.values()].filter(bearing(labels)), (row) => row.id, request);
  }
  pool = async (id: string) => this.#store.tables.pools.get(id);
  async pools({ labels, address }: PoolFilter, request: PageRequest) {
    const rows = [...this.#store.tables.pools.values()]
      .filter(bearing(labels))
      .filter(({ prefixes }) => address === undefined || prefixes.some((prefix) => prefixContains(prefix, address)));
    return page(rows, (row) => row.id, request);
  }
  machine = async (id: string) => this.#store.tables.machines.get(id);
  async machines({ labels, ...fields }: MachineFilter, request: PageRequest) {
    const rows = [...this.#store.tables.machines.values()]
      .filter(bearing(labels))
      .filter((row) => matches(row, fields));
    return page(rows, (row) => row.id, request);
  }
  holder = async (machine: string, name: string) => this.#store.tables.holders.get(holderKey(machine, name));
  slice = async (id: number) => this.#store.tables.slices.get(id);
  session = async (id: number) => this.#store.tables.sessions.get(id);
  revocation = async (id: number) => this.#store.tables.revocations.get(id);
  accessTokenById = async (id: number) => this.#store.tables.accessTokens.get(id);

  #isMeant<Row extends Owned>(row: Row, filter: LabelFilter & Partial<Row>): boolean {
    const { poolLabels, machineLabels } = filter;
    const { pools, machines } = this.#store.tables;
    const owners = [
      [poolLabels, pools.get(row.pool ?? '')],
      [machineLabels, machines.get(row.machine ?? '')],
    ] as const;
    const fields = { ...filter, poolLabels: undefined, machineLabels: undefined };
    return (
      owners.every(([selector, owner]) => bearing(selector)({ labels: owner?.labels ?? {} })) && matches(row, fields)
    );
  }

  async poolSlices(pool: string) {
    const slices = [...this.#store.tables.slices.values()].filter((slice) => slice.pool === pool);
    const count = (states: readonly string[]) => slices.filter((slice) => states.includes(slice.state)).length;
    return { assigned: count(['assigning', 'assigned', 'draining']), cooling: count(['cooling']) };
  }

  async leasesEnding(machinesMax: number, leasesMax: number) {
    const ending = [...this.#store.tables.leases.values()].filter(({ state }) => state === 'ending');
    const machines = [...Map.groupBy(ending, ({ machine }) => machine)].sort(([a], [b]) => (a < b ? -1 : 1));
    const listed = machines.slice(0, machinesMax);
    const share = Math.max(1, Math.floor(leasesMax / listed.length));
    return listed.map(([machine, leases]) => ({
      machine,
      leases: Math.min(share, leases.length),
      since: Math.min(...leases.map(({ endingAt }) => endingAt ?? NaN)),
    }));
  }

  async slicesDraining() {
    const draining = [...this.#store.tables.slices.values()].filter(({ state }) => state === 'draining');
    const places = Map.groupBy(draining, ({ pool, machine }) => `${pool} ${machine}`);
    return [...places].sort().map(([place, slices]) => {
      const [pool = '', machine = ''] = place.split(' ');
      const since = Math.min(...slices.map(({ drainingSince }) => drainingSince ?? NaN));
      return { pool, machine, slices: slices.length, since };
    });
  }

  async slicesWaiting() {
    const counts = new Map<string, WaitingSlices>();
    for (const { pool, route } of this.#store.tables.slices.values())
      if (route === 'adding' || route === 'removing') {
        const slices = (counts.get(`${pool}/${route}`)?.slices ?? 0) + 1;
        counts.set(`${pool}/${route}`, { pool, route, slices });
      }
    return [...counts.values()];
  }

  async holders(machine: string, filter: HolderFilter, request: PageRequest) {
    const rows = [...this.#store.tables.holders.values()].filter((row) => matches(row, { machine, ...filter }));
    return page(rows, (row) => row.name, request);
  }

  async slices(filter: Parameters<Reader['slices']>[0], request: PageRequest) {
    const rows = [...this.#store.tables.slices.values()].filter((slice) => this.#isMeant(slice, filter));
    return page(rows, (row) => row.id, request);
  }

  async tiling(slice: number) {
    const { extents, blocks } = this.#store.tables;
    return {
      extents: [...extents.values()].filter((extent) => extent.slice === slice).sort(byPlace),
      leases: this.#leases()
        .filter((lease) => lease.slice === slice && lease.endedAt === null)
        .sort(byPlace),
      blocked: [...blocks.values()].filter((block) => block.slice === slice && block.blocked !== null).sort(byPlace),
    };
  }

  async sessions(filter: Parameters<Reader['sessions']>[0], request: PageRequest) {
    const rows = [...this.#store.tables.sessions.values()].filter((session) => this.#isMeant(session, filter));
    return page(rows, (row) => row.id, request);
  }

  async revocations(filter: Parameters<Reader['revocations']>[0], request: PageRequest) {
    const rows = [...this.#store.tables.revocations.values()].filter((row) => matches(row, filter));
    return page(rows, (row) => row.id, request);
  }

  async lease(id: number) {
    return this.#leases().find((lease) => lease.id === id);
  }

  async leases(filter: Parameters<Reader['leases']>[0], request: PageRequest) {
    const rows = this.#leases().filter((lease) => this.#isMeant(lease, filter));
    return page(rows, (row) => row.id, request);
  }

  async desired(id: string) {
    const { tables, revision } = this.#store;
    const machine = tables.machines.get(id);
    if (!machine) return undefined;
    const slices = [...tables.slices.values()].filter(
      (row) =>
        row.machine === id &&
        !row.reclaimed &&
        row.route !== 'adding' &&
        ['assigning', 'assigned', 'draining'].includes(row.state),
    );
    return {
      epoch: this.#store.epoch,
      revision,
      machine,
      pools: [...tables.pools.values()],
      slices,
      holders: [...tables.holders.values()].filter((row) => row.machine === id),
      leases: this.#leases().filter(
        (row) => slices.some((slice) => slice.id === row.slice) && hasOccupants(row) && row.ending !== 'fenced',
      ),
      blocked: [...tables.extents.values(), ...tables.blocks.values()]
        .filter((row) => row.machine === id && row.blocked !== null)
        .sort((a, b) => a.slice - b.slice || byPlace(a, b))
        .map(({ slice, protocol, ports }) => ({ slice, protocol, ports })),
      revocations:
        machine.ownSlices === 0
          ? []
          : [...tables.revocations.values()]
              .filter((row) => row.slice === null && (row.machine === null || row.machine === id))
              .sort((a, b) => a.id - b.id)
              .slice(-limits.revocations_told_max),
    };
  }

  async reportedLeft(revocation: Revocation) {
    const { reportedLeases, brokers, slices } = this.#store.tables;
    // The numbers of brokers and those of the server never meet; whoever was granted ports before, it is about.
    const before = { ...revocation, id: Infinity };
    return [...reportedLeases.values()].filter((lease) => {
      const slice = slices.get(lease.slice);
      const isThere =
        slice?.generation === lease.generation && ['assigning', 'assigned', 'draining'].includes(slice.state);
      const isOfNow = brokers.get(lease.machine)?.incarnation === lease.incarnation;
      const isMeant = covers(before, { ...lease, unit: null, forced: false });
      return isThere && isOfNow && isMeant && isOccupied(lease) && lease.grantedAt < revocation.createdAt;
    }).length;
  }

  async eventsAfter(revision: number, interest: Interest, limit: number) {
    return this.#store.events.filter((event) => event.revision > revision && concerns(event, interest)).slice(0, limit);
  }

  async oldestRevision() {
    return this.#store.events[0]?.revision ?? this.#store.revision + 1;
  }

  async whoHad({ address, protocol, port, at }: PortInstant): Promise<PastUse> {
    const { tenures, machines, holders } = this.#store.tables;
    const has = ({ ports }: Readonly<{ ports: PortRange }>) => ports.first <= port && port <= ports.last;
    const tenure = [...tenures.values()].find(
      (row) => row.address === address && has(row) && row.from <= at && (row.until === null || at < row.until),
    );
    const isOwn = tenure?.allocator === 'machine';
    const broker = isOwn ? this.#store.tables.brokers.get(tenure.machine) : undefined;
    const granted = this.#leases().filter(
      (row) =>
        tenure !== undefined &&
        row.slice === tenure.slice &&
        row.generation === tenure.generation &&
        row.protocol === protocol &&
        has(row) &&
        wasHad(row, at, at + 1),
    );
    const leases = isOwn ? reportedAt(this.#store.tables, tenure, { address, protocol, port, at }) : granted;
    return {
      tenure: tenure ?? null,
      broker: broker ?? null,
      machine: machines.get(tenure?.machine ?? '') ?? null,
      leases,
      holders: [...holders.values()].filter(
        (row) => row.machine === tenure?.machine && leases.some((lease) => lease.holder === row.name),
      ),
      historySince: this.#store.historySince,
    };
  }

  async uses(of: UsesFilter, { limit, cursor }: PageRequest): Promise<PageOf<PastLease>> {
    const isTheirs = (row: Lease): boolean =>
      'holder' in of
        ? row.machine === of.machine && row.holder === of.holder
        : row.address === of.address &&
          row.ports.first <= of.port &&
          of.port <= row.ports.last &&
          (of.protocol === null || row.protocol === of.protocol);
    const [, own = -1, reportedAt = -1, ...rest] = cursor?.split('-').map(Number) ?? [];
    type Row = PastLease & { incarnation?: number };
    const isFurther = (row: Row) =>
      row.byMachine
        ? byGrant(row, { grantedAt: reportedAt, incarnation: rest[0] ?? 0, id: rest[1] ?? 0 }) > 0
        : row.id > own;
    const all: readonly Row[] = [...this.#leases(), ...reportedPast(this.#store.tables)];
    const found = all
      .filter((row) => isTheirs(row) && wasHad(row, of.since, of.until))
      .sort((a, b) => a.grantedAt - b.grantedAt || Number(a.byMachine ?? false) - Number(b.byMachine ?? false))
      .filter(isFurther);
    const items = found.slice(0, limit);
    const lastOf = (isReported: boolean) => items.findLast(({ byMachine }) => (byMachine ?? false) === isReported);
    const [granted, reported] = [lastOf(false), lastOf(true)];
    const next = [
      ...(granted ? [granted.grantedAt, granted.id] : [0, Math.max(own, 0)]),
      ...(reported ? [reported.grantedAt, reported.incarnation ?? 0, reported.id] : [Math.max(reportedAt, 0), ...rest]),
    ];
    return {
      items: items.map(({ incarnation: _, ...row }) => row),
      next: found.length > limit ? [...next, 0, 0, 0].slice(0, 5).join('-') : null,
    };
  }

  async machineAllocated(of: UsesFilter, limit: number) {
    const isThere = ({ machine, address, ports }: Tenure): boolean =>
      'holder' in of
        ? machine === of.machine
        : address === of.address && ports.first <= of.port && of.port <= ports.last;
    return [...this.#store.tables.tenures.values()]
      .filter((row) => row.allocator === 'machine' && isThere(row))
      .filter(({ from, until }) => from < of.until && (until === null || until > of.since))
      .sort((a, b) => b.from - a.from || a.slice - b.slice)
      .slice(0, limit);
  }

  broker = async (machine: string) => this.#store.tables.brokers.get(machine);

  async brokers(request: PageRequest) {
    return page(this.#store.tables.brokers.values(), (row) => row.machine, request);
  }

  async reportedLease(machine: string, id: number, now: number) {
    return reportedLeasesOf(this.#store.tables, machine, now).find((row) => row.id === id);
  }

  async reportedLeases(machine: string, filter: ReportedLeaseFilter, now: number, request: PageRequest) {
    const found = reportedLeasesOf(this.#store.tables, machine, now).filter((row) => matches(row, filter));
    return page(found, (row) => row.id, request);
  }

  async reportedSession(machine: string, id: number) {
    return this.#sessionsOfBroker(machine).find((row) => row.id === id);
  }

  async reportedSessions(machine: string, filter: ReportedSessionFilter, request: PageRequest) {
    const found = this.#sessionsOfBroker(machine).filter((row) => matches(row, filter));
    return page(found, (row) => row.id, request);
  }

  #sessionsOfBroker(machine: string) {
    const { brokers, reportedSessions } = this.#store.tables;
    const incarnation = brokers.get(machine)?.incarnation;
    return [...reportedSessions.values()].filter((row) => row.machine === machine && row.incarnation === incarnation);
  }

  historySince = async () => this.#store.historySince;

  async accessToken(hash: string) {
    return [...this.#store.tables.accessTokens.values()].find(
      (token) => token.hash === hash || token.formerHash === hash,
    );
  }

  async audit({ since, until, target, ...filter }: AuditFilter, { limit, cursor }: PageRequest) {
    const found = [...this.#store.tables.audit.values()]
      .filter((row) => matches<AuditEntry>(row, filter) && row.at >= (since ?? 0) && row.at < (until ?? Infinity))
      .filter((row) => target === undefined || isAbout(row, target))
      .filter((row) => cursor === null || row.id < Number(cursor))
      .reverse();
    const items = found.slice(0, limit);
    return { items, next: found.length > limit ? String(items.at(-1)?.id) : null };
  }

  async accessTokens(filter: Parameters<Reader['accessTokens']>[0], request: PageRequest) {
    const tokens = [...this.#store.tables.accessTokens.values()].filter((token) => matches<AccessToken>(token, filter));
    return page(tokens, (row) => row.id, request);
  }

  usage = async () => usageOf(this.#store.tables);

  async oldestUnapplied(limit: number) {
    const { machines } = this.#store.tables;
    const named = [...machines.values()].filter(({ agent }) => agent !== null).sort((a, b) => (a.id < b.id ? -1 : 1));
    return named.slice(0, limit).map(({ id, agent }) => {
      const isDue = (event: Event) => concerns(event, id) && event.revision > (agent?.appliedRevision ?? 0);
      return { machine: id, at: this.#store.events.find(isDue)?.at ?? null };
    });
  }

  #leases(): Lease[] {
    const { leases, sessions, revocations } = this.#store.tables;
    const ending = [...revocations.values()].filter(({ state }) => state === 'ending');
    return [...leases.values()].map((lease) => inEffect(lease, sessions.get(lease.session ?? 0), ending));
  }
}

/** At some instant from `since` until before `until`. */
const wasHad = (lease: Lease, since: number, until: number): boolean =>
  lease.state !== 'refused' && lease.grantedAt < until && since < (lease.emptyAt ?? Infinity);

type Place = Pick<Extent, 'protocol' | 'ports'>;

export const byPlace = (a: Place, b: Place): number =>
  a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : a.ports.first - b.ports.first;

/** What holders have, counted lease by lease. */
export function heldOf({ leases }: Pick<Tables, 'leases'>): readonly HeldPorts[] {
  const ports = new Map<string, HeldPorts>();
  for (const lease of leases.values()) {
    if (!hasOccupants(lease)) continue;
    const { machine, holder, protocol } = lease;
    const key = `${machine}/${holder}/${protocol}`;
    ports.set(key, { machine, holder, protocol, ports: (ports.get(key)?.ports ?? 0) + portCount(lease.ports) });
  }
  return [...ports.values()];
}

/** Ports by use, counted one by one. */
export function usageOf({ leases, extents, blocks, slices }: Tables): readonly UsageRow[] {
  const ports = new Map<string, number>();
  type Row = Readonly<{
    slice: number;
    pool: string;
    machine: string;
    protocol: string;
    ports: { first: number; last: number };
  }>;
  const add = (row: Row, state: string) => {
    const address = slices.get(row.slice)?.address ?? '';
    const key = `${row.pool} ${row.machine} ${address.includes(':') ? 6 : 4} ${row.protocol} ${state}`;
    ports.set(key, (ports.get(key) ?? 0) + portCount(row.ports));
  };
  for (const extent of extents.values()) {
    const { allocator } = slices.get(extent.slice) ?? {};
    const unoffered = allocator === 'machine' ? 'machine_allocated' : 'withheld';
    add(extent, extent.state === 'free' && !extent.offered ? unoffered : extent.state);
  }
  for (const block of blocks.values()) add(block, 'shared');
  for (const lease of leases.values()) {
    if (lease.state === 'cooling') add(lease, 'cooling');
    else if (hasOccupants(lease) && lease.mode === 'exclusive') add(lease, 'exclusive');
  }
  return [...ports].map(([key, count]) => {
    const [pool, machine, family, protocol, state] = key.split(' ');
    return { pool, machine, family: Number(family), protocol, state, ports: count } as UsageRow;
  });
}
