import { firstEpoch } from '../../src/db/first-epoch.ts';
import { addressToBigInt, familyOf } from '../../src/net/address.ts';
import { rangesOverlap } from '../../src/net/ports.ts';
import { prefixContains } from '../../src/net/prefix.ts';
import {
  answerKey,
  hasOccupants,
  holderKey,
  placeOf,
  tenureKey,
  type AccessToken,
  type AuditEntry,
  type Epoch,
  type Event,
  type Extent,
  type Holder,
  type KeptAnswer,
  type Lease,
  type Machine,
  type Pool,
  type Revocation,
  type Router,
  type Session,
  type SharedBlock,
  type Slice,
  type Tenure,
} from '../../src/leases/model.ts';
import type { Need } from '../../src/leases/needs.ts';
import { reportedKey, type Broker, type ReportedLease, type ReportedSession } from '../../src/leases/reported.ts';
import { StoreError, type Reader, type Store, type Work } from '../../src/leases/store.ts';
import { View, type Loss } from '../../src/leases/view.ts';
import { forgetFrom, pruneTables } from './memory-forgetting.ts';
import { loadOffers } from './memory-offers.ts';
import { loadForLifecycle } from './memory-lifecycle.ts';
import { loadReported } from './memory-reported.ts';
import { byPlace, heldOf, MemoryReader, usageOf } from './memory-reader.ts';
import { write } from './memory-write.ts';

/** Every row there is, by key. What tests look at when they look at everything. */
export type Tables = Readonly<{
  pools: Map<string, Pool>;
  machines: Map<string, Machine>;
  holders: Map<string, Holder>;
  slices: Map<number, Slice>;
  tenures: Map<string, Tenure>;
  sessions: Map<number, Session>;
  leases: Map<number, Lease>;
  extents: Map<string, Extent>;
  blocks: Map<string, SharedBlock>;
  accessTokens: Map<number, AccessToken>;
  revocations: Map<number, Revocation>;
  routers: Map<string, Router>;
  keptAnswers: Map<string, KeptAnswer>;
  audit: Map<number, AuditEntry>;
  epochs: Map<number, Epoch>;
  brokers: Map<string, Broker>;
  reportedSessions: Map<string, ReportedSession>;
  reportedLeases: Map<string, ReportedLease>;
}>;

/** A store made of maps and filters: slow, obvious, and held to the same contract as the real one. */
export class MemoryStore implements Store {
  readonly tables: Tables = {
    pools: new Map(),
    machines: new Map(),
    holders: new Map(),
    slices: new Map(),
    tenures: new Map(),
    sessions: new Map(),
    leases: new Map(),
    extents: new Map(),
    blocks: new Map(),
    accessTokens: new Map(),
    revocations: new Map(),
    routers: new Map(),
    keptAnswers: new Map(),
    audit: new Map(),
    epochs: new Map(),
    brokers: new Map(),
    reportedSessions: new Map(),
    reportedLeases: new Map(),
  };
  events: readonly Event[] = [];
  readonly reader: Reader = new MemoryReader(this);
  revision = 0;
  historySince: number | null = null;
  /** Tests set it to make the next transactions fail. */
  failure: StoreError | undefined;
  #lastEventAt = 0;
  #isClosed = false;
  /** What this store is to find out with the next batch. */
  loss: Loss | undefined;
  readonly #database: string | undefined;

  /** `first`: the epoch that it begins in; what follows a dot in its id is the name of the database. */
  constructor(first: Epoch = firstEpoch('memory', 0)) {
    this.tables.epochs.set(first.number, first);
    const [, ...database] = first.id.split('.');
    this.#database = database.length > 0 ? database.join('.') : undefined;
  }

  get epoch(): Epoch {
    return [...this.tables.epochs.values()].at(-1) ?? firstEpoch('memory', 0);
  }

  async transact<T>(work: Work<T>): Promise<T> {
    if (this.#isClosed) throw new StoreError('closed', 'the store is closed');
    const { number: epoch, confirmedAt } = this.epoch;
    const database = this.#database === undefined ? {} : { database: this.#database };
    const view = new View(
      { epoch, confirmedAt, revision: this.revision, lastEventAt: this.#lastEventAt, loss: this.loss, ...database },
      work.now,
    );
    for (const round of work.needs(view)) for (const need of round) this.#load(view, need);
    const result = work.decide(view);
    if (this.failure) throw this.failure;
    const changes = view.changes();
    if (changes.epochs.length > 0) this.loss = undefined;
    const { tables } = this;
    write(tables.pools, changes.pools, (row) => row.id);
    write(tables.machines, changes.machines, (row) => row.id);
    write(tables.holders, changes.holders, (row) => holderKey(row.machine, row.name));
    write(tables.slices, changes.slices, (row) => row.id);
    write(tables.tenures, changes.tenures, (row) => tenureKey(row.slice, row.generation));
    write(tables.sessions, changes.sessions, (row) => row.id);
    write(tables.leases, changes.leases, (row) => row.id);
    write(tables.extents, changes.extents, placeOf);
    write(tables.blocks, changes.blocks, placeOf);
    write(tables.revocations, changes.revocations, (row) => row.id);
    write(tables.accessTokens, changes.accessTokens, (row) => row.id);
    write(tables.routers, changes.routers, (row) => row.id);
    for (const entry of changes.audit) write(tables.audit, [{ before: undefined, after: entry }], ({ id }) => id);
    write(tables.keptAnswers, changes.keptAnswers, (row) => answerKey(row.token, row.key));
    write(tables.epochs, changes.epochs, (row) => row.number);
    write(tables.brokers, changes.brokers, (row) => row.machine);
    write(tables.reportedSessions, changes.reportedSessions, reportedKey);
    write(tables.reportedLeases, changes.reportedLeases, reportedKey);
    this.events = [...this.events, ...changes.events];
    this.revision = changes.events.at(-1)?.revision ?? this.revision;
    this.#lastEventAt = changes.events.at(-1)?.at ?? this.#lastEventAt;
    return result;
  }

  async compact({ keep, rowsMax }: Readonly<{ keep: number; rowsMax: number }>) {
    const surplus = Math.max(0, this.events.length - keep);
    const dropped = Math.min(surplus, rowsMax);
    this.events = this.events.slice(dropped);
    return { dropped, more: surplus > dropped };
  }

  async prune(step: Parameters<Store['prune']>[0]) {
    const { removed, more, historySince } = pruneTables(this.tables, step);
    if (removed > 0) this.historySince = Math.max(historySince, this.historySince ?? historySince);
    return { removed, more };
  }

  async forget(step: Parameters<Store['forget']>[0]) {
    return forgetFrom(this.tables, step);
  }

  onForeignCommit(): () => void {
    return () => {};
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #load(view: View, need: Need): void {
    const { tables } = this;
    const loadOne = <Row>(table: { load(row: Row): void }, row: Row | undefined) => {
      if (row !== undefined) table.load(row);
    };
    const isIn = (row: { slice: number; protocol: string }, place: { slice: number; protocol: string }) =>
      row.slice === place.slice && row.protocol === place.protocol;
    switch (need.need) {
      case 'pool': {
        loadOne(view.pools, tables.pools.get(need.id));
        return;
      }
      case 'machine': {
        loadOne(view.machines, tables.machines.get(need.id));
        return;
      }
      case 'holder': {
        loadOne(view.holders, tables.holders.get(holderKey(need.machine, need.name)));
        return;
      }
      case 'holderByUid': {
        loadOne(
          view.holders,
          [...tables.holders.values()].find((row) => row.machine === need.machine && row.uid === need.uid),
        );
        return;
      }
      case 'holdersInCgroups': {
        for (const row of tables.holders.values())
          if (row.machine === need.machine && row.cgroup !== null) view.holders.load(row);
        return;
      }
      case 'slice': {
        loadOne(view.slices, tables.slices.get(need.id));
        return;
      }
      case 'tenure': {
        loadOne(view.tenures, tables.tenures.get(tenureKey(need.slice, need.generation)));
        return;
      }
      case 'session': {
        loadOne(view.sessions, tables.sessions.get(need.id));
        return;
      }
      case 'lease': {
        loadOne(view.leases, tables.leases.get(need.id));
        return;
      }
      case 'auditEnd': {
        const last = [...tables.audit.values()].at(-1);
        view.loadAuditEnd({ id: last?.id ?? 0, at: last?.at ?? 0 });
        return;
      }
      case 'keptAnswer': {
        loadOne(view.keptAnswers, tables.keptAnswers.get(answerKey(need.token, need.key)));
        return;
      }
      case 'block': {
        loadOne(view.blocks, tables.blocks.get(`${need.slice}/${need.protocol}/${need.first}`));
        return;
      }
      case 'accessToken': {
        loadOne(view.accessTokens, tables.accessTokens.get(need.id));
        return;
      }
      case 'router': {
        loadOne(view.routers, tables.routers.get(need.id));
        return;
      }
      case 'routers':
        for (const router of tables.routers.values()) view.routers.load(router);
        return;
      case 'waitingPools': {
        const waiting = [...tables.slices.values()].filter(({ route }) => route === 'adding' || route === 'removing');
        view.loadWaitingPools([...new Set(waiting.map(({ pool }) => pool))].sort());
        return;
      }
      case 'waitingSlices':
        for (const slice of [...tables.slices.values()]
          .filter((row) => row.pool === need.pool && row.route === need.route && row.routeRevision <= need.through)
          .sort((a, b) => a.routeRevision - b.routeRevision || a.id - b.id)
          .slice(0, need.limit)) {
          view.slices.load(slice);
          (need.route === 'adding' ? view.due.routed : view.due.withdrawn).push(slice);
        }
        return;
      case 'epoch': {
        loadOne(view.epochs, tables.epochs.get(need.number));
        return;
      }
      case 'unheard': {
        const isHeard = (row: Machine) =>
          row.enforcement === 'agent' &&
          row.agent !== null &&
          row.agent.seenAt >= need.since &&
          row.agent.appliedRevision <= need.after;
        const others = [...tables.machines.values()].filter(
          ({ id, state }) => id !== need.except && state !== 'lost' && state !== 'fenced',
        );
        view.loadMachinesThere('unheard', !others.every(isHeard));
        return;
      }
      case 'behind': {
        const isBehind = ({ enforcement, state, agent, fenceUs }: Machine) => {
          const isAnswered = agent !== null && agent.seenAt >= need.since && agent.appliedRevision <= need.after;
          const isUpToDate = agent !== null && agent.appliedRevision >= need.from;
          const mayBeOpen = Math.max(agent?.seenAt ?? 0, need.since) + fenceUs > need.openAt;
          return enforcement === 'agent' && state !== 'lost' && !isAnswered && !isUpToDate && mayBeOpen;
        };
        view.loadMachinesThere('behind', [...tables.machines.values()].some(isBehind));
        return;
      }
      case 'epochById': {
        loadOne(
          view.epochs,
          [...tables.epochs.values()].find((row) => row.id === need.id),
        );
        return;
      }
      case 'sliceAt': {
        loadOne(
          view.slices,
          [...tables.slices.values()].find(
            ({ machine, address, ports }) =>
              machine !== null && address === need.address && ports.first <= need.port && need.port <= ports.last,
          ),
        );
        return;
      }
      case 'madeAt': {
        loadOne(
          view.slices,
          [...tables.slices.values()].find(
            ({ poolBornAt, address, ports }) =>
              poolBornAt === need.poolBornAt &&
              address === need.address &&
              ports.first <= need.port &&
              need.port <= ports.last,
          ),
        );
        return;
      }
      case 'ownedWithin': {
        const here = [...tables.slices.values()]
          .filter(({ machine, address }) => machine !== null && prefixContains(need.prefix, address))
          .filter(({ ports }) => need.ports === null || rangesOverlap(ports, need.ports))
          .sort(
            (a, b) => Number(addressToBigInt(a.address) - addressToBigInt(b.address)) || a.ports.first - b.ports.first,
          );
        loadOne(view.slices, here[0]);
        return;
      }
      case 'ownedOfPool': {
        const owned = [...tables.slices.values()].filter(({ machine, pool }) => machine !== null && pool === need.pool);
        loadOne(view.slices, owned.sort((a, b) => a.id - b.id)[0]);
        return;
      }
      case 'ownedByMachine':
      case 'liveSession':
      case 'sessionOfHolder':
      case 'leaseOfHolder':
      case 'machineHolders':
      case 'machineTokens':
      case 'routerTokens':
      case 'wantingMachines':
      case 'ownedSlices':
      case 'unsettledMachines':
      case 'undrainedSlices':
      case 'unreclaimedSlices':
        loadForLifecycle(tables, view, need);
        return;
      case 'broker':
      case 'reportedSession':
      case 'reportedLease':
      case 'reportedOccupants':
      case 'lostSessions':
      case 'lostLeases':
        loadReported(tables, view, need);
        return;
      case 'pools':
        for (const pool of tables.pools.values()) view.pools.load(pool);
        return;
      case 'sliceTiles':
        for (const extent of tables.extents.values()) if (extent.slice === need.slice) view.extents.load(extent);
        for (const block of tables.blocks.values()) if (block.slice === need.slice) view.blocks.load(block);
        return;
      case 'occupants': {
        view.loadOccupants(
          need.slice,
          [...tables.leases.values()].filter((lease) => lease.slice === need.slice && hasOccupants(lease)).length,
        );
        return;
      }
      case 'membership':
        for (const lease of tables.leases.values())
          if (
            isIn(lease, need) &&
            lease.ports.first === need.first &&
            lease.holder === need.holder &&
            hasOccupants(lease)
          )
            view.leases.load(lease);
        return;
      case 'extentsAround': {
        const around = { first: need.ports.first - 1, last: need.ports.last + 1 };
        for (const extent of tables.extents.values())
          if (isIn(extent, need) && rangesOverlap(extent.ports, around)) view.extents.load(extent);
        return;
      }
      case 'occupant': {
        loadOne(
          view.leases,
          [...tables.leases.values()]
            .filter((lease) => isIn(lease, need) && lease.endedAt === null && rangesOverlap(lease.ports, need.ports))
            .sort((a, b) => b.ports.first - a.ports.first || a.id - b.id)[0],
        );
        return;
      }
      case 'limitedHolders': {
        const limited = [...tables.holders.values()].filter(
          (row) => row.machine === need.machine && row.limits !== null,
        );
        for (const row of limited) view.holders.load(row);
        view.loadHeld(
          need.machine,
          heldOf(tables).filter(
            (row) => row.machine === need.machine && limited.some(({ name }) => name === row.holder),
          ),
        );
        return;
      }
      case 'heldRecount': {
        // Nothing is kept here that could be behind.
        view.loadRecount(need.machine, []);
        return;
      }
      case 'liveSessions': {
        const { machine, holder, now, up } = need;
        const live = [...tables.sessions.values()].filter(
          (row) => row.machine === machine && row.holder === holder && row.state === 'live',
        );
        view.loadLiveSessions(
          machine,
          holder,
          live.filter(({ expiresAt, ttlUs }) => Math.max(expiresAt, now - up + ttlUs) > now).length,
        );
        return;
      }
      case 'room': {
        const { machine, protocol } = need;
        const fitting = [...tables.extents.values()].filter(
          (row) => row.offered && row.machine === machine && row.protocol === protocol,
        );
        const rows = usageOf(tables).filter((row) => row.machine === machine && row.protocol === protocol);
        const fitOf = ({ pool, family }: (typeof rows)[number]) =>
          Math.max(...fitting.filter((row) => row.pool === pool && row.family === family).map(({ fit }) => fit));
        view.loadRoom(
          machine,
          protocol,
          rows.map((row) => ({ ...row, fit: row.state === 'free' ? fitOf(row) : null })),
        );
        return;
      }
      case 'nextRest': {
        const isHere = (row: { machine: string; protocol: string; state: string }) =>
          row.machine === need.machine && row.protocol === need.protocol && row.state === 'cooling';
        const rests = [...tables.leases.values(), ...tables.extents.values()]
          .filter(isHere)
          .flatMap((row) => row.reusableAt ?? []);
        view.loadNextRest(need.machine, need.protocol, rests.length > 0 ? Math.min(...rests) : null);
        return;
      }
      case 'offers':
      case 'ownOffers':
      case 'offeredAt':
      case 'ownedAt':
      case 'offeredExtents':
      case 'joinableBlocks':
      case 'extentsAt':
      case 'joinableAt':
      case 'roomySlices':
        loadOffers(tables, view, need);
        return;
      case 'returnedSlices':
        for (const slice of [...tables.slices.values()]
          .filter(
            (row) =>
              row.poolBornAt === need.poolBornAt &&
              row.state === 'free' &&
              (need.family === null || familyOf(row.address) === need.family),
          )
          .sort((a, b) => (a.reusableAt ?? 0) - (b.reusableAt ?? 0) || a.id - b.id)
          .filter(({ reusableAt, id }) => {
            if (need.after === null) return true;
            const at = reusableAt ?? 0;
            return at > need.after.reusableAt || (at === need.after.reusableAt && id > need.after.id);
          })
          .slice(0, need.limit))
          view.slices.load(slice);
        return;
      case 'endingRevocations':
        for (const row of tables.revocations.values()) if (row.state === 'ending') view.revocations.load(row);
        return;
      case 'revokedSlices': {
        const slices = [...tables.slices.values()]
          .filter((row) => row.machine !== null && row.id >= need.from)
          .filter((row) => need.machine === null || row.machine === need.machine)
          .filter((row) => need.slice === null || row.id === need.slice)
          .filter((row) => need.pools === null || need.pools.includes(row.pool))
          .filter((row) => need.prefix === null || prefixContains(need.prefix, row.address))
          .sort((a, b) => a.id - b.id)
          .slice(0, need.limit);
        for (const slice of slices) view.slices.load(slice);
        view.walk.slices.push(...slices);
        return;
      }
      case 'leasesAlong': {
        const placed = (row: { protocol: string; first: number; lease: number }) =>
          `${row.protocol} ${String(row.first).padStart(5, '0')} ${String(row.lease).padStart(16, '0')}`;
        const placeOfLease = ({ protocol, ports, id }: Lease) => placed({ protocol, first: ports.first, lease: id });
        const leases = [...tables.leases.values()]
          .filter((row) => row.slice === need.slice && row.endedAt === null)
          .filter((row) => need.after === null || placeOfLease(row) > placed(need.after))
          .sort((a, b) => (placeOfLease(a) < placeOfLease(b) ? -1 : 1))
          .slice(0, need.limit);
        for (const lease of leases) view.leases.load(lease);
        view.walk.leases.set(need.slice, leases);
        return;
      }
      case 'dueRevocations':
        for (const revocation of firstDue(
          [...tables.revocations.values()]
            .filter((row) => row.state === 'waiting' && row.revokeAt <= need.before)
            .sort((a, b) => a.id - b.id),
          (row) => row.revokeAt,
          need.limit,
        )) {
          view.revocations.load(revocation);
          view.due.revocations.push(revocation);
        }
        return;
      case 'dueSessions':
        for (const session of firstDue(
          [...tables.sessions.values()].filter((row) => row.state === 'live' && row.expiresAt <= need.before),
          (row) => row.expiresAt,
          need.limit,
        )) {
          view.sessions.load(session);
          view.due.sessions.push(session);
        }
        return;
      case 'unsettledSessions': {
        const unsettled = firstDue(
          [...tables.sessions.values()].filter((row) => row.state === 'ended' && !row.settled),
          (row) => row.id,
          need.limit,
        );
        for (const session of unsettled) view.sessions.load(session);
        view.due.unsettled.push(...unsettled);
        const leases = [...tables.leases.values()]
          .filter((lease) => lease.state === 'pending' || lease.state === 'active')
          .filter((lease) => unsettled.some((session) => session.id === lease.session))
          .sort((a, b) => (a.session ?? 0) - (b.session ?? 0) || a.id - b.id)
          .slice(0, need.limit);
        for (const lease of leases) view.leases.load(lease);
        view.due.unsettledLeases.push(...leases);
        return;
      }
      case 'restedLeases':
        for (const lease of firstDue(
          [...tables.leases.values()].filter((row) => row.state === 'cooling' && (row.reusableAt ?? 0) <= need.before),
          (row) => row.reusableAt ?? 0,
          need.limit,
        )) {
          view.leases.load(lease);
          view.due.leases.push(lease);
        }
        return;
      case 'restedExtents':
        for (const extent of firstDue(
          [...tables.extents.values()]
            .filter((row) => row.state === 'cooling' && (row.reusableAt ?? 0) <= need.before)
            .sort((a, b) => a.slice - b.slice || byPlace(a, b)),
          (row) => row.reusableAt ?? 0,
          need.limit,
        )) {
          view.extents.load(extent);
          view.due.extents.push(extent);
        }
        return;
      case 'restedSlices':
        for (const slice of firstDue(
          [...tables.slices.values()].filter(
            (row) =>
              row.state === 'cooling' &&
              row.route !== 'removing' &&
              (row.reusableAt ?? 0) <= need.before &&
              ![...tables.leases.values()].some((lease) => lease.slice === row.id && lease.endedAt === null),
          ),
          (row) => row.reusableAt ?? 0,
          need.limit,
        )) {
          view.slices.load(slice);
          view.due.slices.push(slice);
        }
        return;
      case 'silentMachines':
        for (const machine of firstDue(
          [...tables.machines.values()].filter(
            (row) =>
              row.enforcement === 'agent' &&
              row.state !== 'fenced' &&
              row.state !== 'lost' &&
              row.agent !== null &&
              row.fenceUs <= need.fenceUsMax &&
              row.agent.seenAt + row.fenceUs <= need.before,
          ),
          (row) => (row.agent?.seenAt ?? 0) + row.fenceUs,
          need.limit,
        )) {
          view.machines.load(machine);
          view.due.machines.push(machine);
        }
        return;
    }
  }
}

const firstDue = <Row>(rows: readonly Row[], by: (row: Row) => number, limit: number): readonly Row[] =>
  [...rows].sort((a, b) => by(a) - by(b)).slice(0, limit);
