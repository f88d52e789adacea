import { randomBytes, randomUUID } from 'node:crypto';
import { chmodSync, rmSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { buildApp } from '../api/app.ts';
import { detailOf } from '../api/errors.ts';
import { defaultLimits } from '../api/parts.ts';
import { brokerOperations } from '../api/plugins/callers.ts';
import { presentChange, presentDesired } from '../api/present.ts';
import type { Principal } from '../api/principal.ts';
import { apiProblem, type ApiProblem } from '../api/problems.ts';
import { Feed } from '../feed/feed.ts';
import { concerns, type Event, type Holder, type Machine, type Pool, type Slice } from '../leases/model.ts';
import type { PageOf, PageRequest } from '../leases/store.ts';
import { err, ok, type Result } from '../net/result.ts';
import { SteadyClock } from '../ops/clock.ts';
import { makeDirectory } from '../ops/directory.ts';
import type { Logger } from '../ops/logger.ts';
import type { Applied, AppliedAnswer, Change, Desired } from '../wire/agent.ts';
import type { ForwardedAnswerInput, ForwardedRequest } from '../wire/broker.ts';
import { formatInstant } from '../wire/instants.ts';
import { grantCounters, grantCounts, type GrantCounts } from './counts.ts';
import type { Revocation } from '../wire/revocations.ts';
import { numberOf } from './identifiers.ts';
import { openLocalTable, putAside, type LocalTable, type StartEngine } from './local-table.ts';
import {
  contradictions,
  isHere,
  isOver,
  stepsToward,
  waitsForClock,
  type Mirrored,
  type ServerWord,
} from './mirror.ts';
import { asOwn } from './own-slices.ts';
import { asOwnRevocations, hasDeadline, labelsAfter, unheard } from './revocations.ts';
import { Door, type Caller } from './door.ts';
import { peerOf, principalOfPeer, type KnownHolders, type Peer } from './peers.ts';
import { Upstream, type UpstreamParts } from './upstream.ts';

export type BrokerParts = Readonly<{
  machine: string;
  /** Of the table; made where it is missing. */
  directory: string;
  /** Path of the Unix socket that is served. */
  socket: string;
  version: string;
  log: Logger;
  /** Why nothing that would be granted now could be used, for people; undefined when it could. */
  cutOff(): string | undefined;
  /** The server's clock, by which its deadlines are; microseconds, undefined before it was told. */
  serverNowUs(): number | undefined;
  /** Who is known on this machine, by the server's latest word. */
  holders(): KnownHolders;
  /** The control group of a process, as a path below the cgroup2 mount; undefined where it cannot be told. */
  cgroupOf(pid: number): string | undefined;
  startEngine?: StartEngine;
}> &
  Pick<UpstreamParts, 'send' | 'doze' | 'onTold'> &
  Readonly<{
    /** The table is not what it was, and grants nothing any more: this broker is to be closed, and another started. */
    onLost(): void;
  }>;

/** For people and metrics. */
export type BrokerStatus = Readonly<{
  socket: string;
  epoch: string;
  problem: string | null;
  /** Why the server was not told the last time, and since when; RFC 3339. null when it was. */
  report_problem: string | null;
  report_problem_since: string | null;
  /** Up to where in the broker's own log the server has heard of everything, and how long ago it took a report. */
  told_through: number | null;
  told_s_ago: number | null;
  /** By how many changes the log is longer than what the server has heard of. */
  untold: number | null;
  /** Leases that the server did not take, in all that was told to it. */
  rejected: number;
  connections: number;
}>;

/** What the agent has to make true of what was granted here: a snapshot, and every change of it, in order. */
export type Granted = Readonly<{ type: 'snapshot'; desired: Desired } | { type: 'change'; change: Change }>;

/** For whom the app carries a request out that did not come over its socket. Nobody else can know its value. */
const forwardedHeader = 'fishery-forwarded';
/** Whose keys are scoped by it, of requests: nobody has this number. */
const keys_of_server = 0;
const retry_after_s = 2;
const nobodyThere = 'the kernel does not say whose process is at the other end of the socket';

/**
 * Grants on this host, in the slices that the server handed to its machine: the server's own engine and API over a table of
 * its own, on a Unix socket. What the server decides is mirrored into the table by commands of the engine; what is granted
 * is told to the server in batches.
 */
export class Broker {
  readonly #parts: BrokerParts;
  readonly #table: LocalTable;
  readonly #feed: Feed;
  readonly #app: FastifyInstance;
  readonly #door: Door<Caller & Readonly<{ peer: Peer }>>;
  readonly #clock = new SteadyClock();
  readonly #upstream: Upstream;
  readonly #ending = new AbortController();
  readonly #slices = new Map<number, Slice>();
  /** The revision at which each was given up: what comes after that is no news of what lived there. */
  readonly #emptied = new Map<number, number>();
  readonly #forwarded = new Map<string, Principal>();
  #telling: Promise<void> = Promise.resolve();
  /** Where the log ends, as far as it was heard of. */
  #newest = 0;
  /** Which of the server's words are in the table. */
  #mirrored: Promise<boolean> = Promise.resolve(false);
  #isMirrored = false;
  /** Why what the server said last is not in the table as a whole. */
  #mirrorProblem: string | null = null;
  /** Why the table cannot be gone on with. */
  #lost: string | undefined;

  private constructor(parts: BrokerParts, table: LocalTable) {
    this.#parts = parts;
    this.#table = table;
    const { leases, reader } = table.engine;
    this.#feed = new Feed({ log: reader });
    leases.onEvents((events) => this.#hear(events));
    this.#upstream = new Upstream({
      ...{ epoch: table.epoch, bornAt: table.bornAt, openedAt: table.openedAt, reader },
      ...{ clock: this.#clock, log: parts.log },
      ...{ send: (report, signal) => parts.send(report, signal), doze: (ms, signal) => parts.doze(ms, signal) },
      counters: () => grantCounters(this.#app.metrics),
      onTold: () => parts.onTold(),
      onLost: (why) => {
        this.#lost = why;
        parts.log.error(`the broker's table is lost: ${why}`);
        parts.onLost();
      },
      settled: async () => {
        await leases.execute({ kind: 'sweep', itemsMax: 1 });
      },
    });
    this.#app = buildApp({
      ...{ leases, reader: asOwn(reader), feed: this.#feed, clock: this.#clock, logger: parts.log },
      ...{ version: parts.version, randomBytes, metricsOpen: true, processMetrics: false, limits: defaultLimits },
      callers: {
        serves: brokerOperations,
        principalOf: (request) => this.#principalOf(request),
        refusal: (operation) =>
          operation === 'grantLeases' || operation === 'openSession' ? this.#refusal() : undefined,
      },
    });
    this.#door = new Door(this.#app.server, {
      callerOf: (socket) => this.#callerOf(socket),
      now: () => performance.now(),
    });
  }

  /** The error is one line for people. */
  static async start(parts: BrokerParts): Promise<Result<Broker, string>> {
    let table: LocalTable | undefined;
    try {
      table = await openLocalTable(parts.directory, parts.log, parts.startEngine);
      const broker = new Broker(parts, table);
      await broker.#begin();
      return ok(broker);
    } catch (error) {
      await table?.engine.close();
      return err(`the broker cannot be started: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #begin(): Promise<void> {
    const { socket } = this.#parts;
    const { reader } = this.#table.engine;
    for (const slice of await everything<Slice>((page) => reader.slices({}, page)))
      if (!this.#slices.has(slice.id)) this.#slices.set(slice.id, slice);
    this.#newest = Math.max(this.#newest, await reader.revision());
    makeReachable(dirname(socket));
    if (statSync(socket, { throwIfNoEntry: false })?.isSocket() === false)
      throw new Error(`${socket} is there, and is no socket: name another path`);
    // Left behind by one that died: whoever starts a broker has made sure that none is at work.
    rmSync(socket, { force: true });
    await this.#app.listen({ path: socket });
    chmodSync(socket, 0o666);
    await this.#table.engine.startSweeping();
    this.#telling = this.#upstream.run(this.#ending.signal);
  }

  /** Where requests are taken in process, as from the socket but for who asks: for tests and for what the server forwards. */
  get app(): FastifyInstance {
    return this.#app;
  }

  get epoch(): string {
    return this.#table.epoch;
  }

  status(): BrokerStatus {
    const { problem, problemSince, through, toldAt, rejectedInAll } = this.#upstream;
    return {
      socket: this.#parts.socket,
      epoch: this.epoch,
      problem: this.#lost ?? this.#problem(),
      report_problem: problem,
      report_problem_since: problemSince === null ? null : formatInstant(problemSince),
      told_through: through ?? null,
      told_s_ago: toldAt === null ? null : Math.max(0, Math.round((this.#clock.nowUs() - toldAt) / 1e6)),
      untold: through === undefined ? null : Math.max(0, this.#newest - through),
      rejected: rejectedInAll,
      connections: this.#door.connections,
    };
  }

  /** Since it started. */
  counts(): Promise<GrantCounts> {
    return grantCounts(this.#app.metrics);
  }

  /** The worst first: without its table nothing is granted here any more. */
  #problem(): string | null {
    const { reason } = this.#table.engine.leases.health();
    if (reason !== null) return `the broker's table is out of order: ${reason}`;
    const { rejected } = this.#upstream;
    const isRefused = rejected > 0 ? `the server does not take ${rejected} leases that were granted here` : null;
    return this.#mirrorProblem ?? isRefused;
  }

  /**
   * Has the table be as the server says. Resolves when that is durable: with false when something of it could not be done
   * yet, because it waits for what lives there to be over.
   */
  mirror(word: ServerWord): Promise<boolean> {
    const before = this.#mirrored.catch(() => false);
    return (this.#mirrored = before.then(async () => {
      try {
        return await this.#mirror(word);
      } catch (error) {
        this.#mirrorProblem = `what the server says cannot be taken over: ${String(error)}`;
        throw error;
      }
    }));
  }

  async #mirror(word: ServerWord): Promise<boolean> {
    const missing: string[] = [];
    const has = await this.#has(word.machine);
    const clocks = { hereUs: this.#clock.nowUs(), serverUs: this.#parts.serverNowUs() };
    for (const step of stepsToward(word, has, clocks)) {
      const done = await this.#table.engine.leases.execute(step);
      if (done.ok) continue;
      missing.push(`${step.kind}: ${detailOf(done.error)}`);
      this.#parts.log.info({ step: step.kind, ...done.error }, 'what the server says is not in the table yet');
    }
    this.#isMirrored = true;
    const [first] = missing;
    const [impossible = null] = contradictions(word, has);
    this.#mirrorProblem = first === undefined ? impossible : `what the server says is not in the table yet: ${first}`;
    return (await this.#revoke(word, clocks.serverUs)) && missing.length === 0 && !waitsForClock(word, clocks);
  }

  /** Whether all that the server revoked by the many is revoked here. */
  async #revoke(word: ServerWord, serverUs: number | undefined): Promise<boolean> {
    const { leases, reader } = this.#table.engine;
    const { machine } = this.#parts;
    const row = await reader.machine(machine);
    if (!row) return true;
    const mark = async (last: Revocation | undefined) => {
      await leases.execute({ kind: 'updateMachine', id: machine, labels: { ...row.labels, ...labelsAfter(last) } });
    };
    const due = unheard(word, row);
    if (due === undefined) await mark(word.revocations.at(-1));
    for (const revocation of due ?? []) {
      if (serverUs === undefined && hasDeadline(revocation)) return false;
      const own = asOwnRevocations(revocation, machine, serverUs ?? 0);
      for (const input of own) {
        // Whoever is killed before the mark is on disk does this again.
        const key = {
          token: keys_of_server,
          key: `${revocation.id} ${input.pool ?? ''}`,
          fingerprint: revocation.created_at,
        };
        const provenance = { requestId: revocation.id, key, audit: null };
        const done = await leases.execute({ kind: 'revokeLeases', ...input }, { provenance });
        // Who holds nothing here, and where nothing is granted, is not known here.
        if (!done.ok) this.#parts.log.info({ revocation: revocation.id, ...done.error }, 'nothing is revoked here');
      }
      await mark(revocation);
    }
    return true;
  }

  async #has(machine: string): Promise<Mirrored> {
    const { reader } = this.#table.engine;
    const known = await reader.machine(machine);
    const pools = await everything<Pool>((page) => reader.pools({}, page));
    const holders = known ? await everything<Holder>((page) => reader.holders(machine, {}, page)) : [];
    return {
      machine: known satisfies Machine | undefined,
      pools: new Map(pools.map((pool) => [pool.id, pool])),
      holders: new Map(holders.map((holder) => [holder.name, holder])),
      slices: this.#slices,
    };
  }

  /** Whether the slice lives in the table under this generation: the server may be told that it is here. */
  isAdopted(slice: string, generation: number): boolean {
    const known = this.#slices.get(numberOf(slice));
    return known !== undefined && isHere(known, generation);
  }

  /** Whether it is on disk that nothing is granted any more in this generation of the slice, and that nothing lives in it. */
  isOver(slice: string, generation: number): boolean {
    const known = this.#slices.get(numberOf(slice));
    return known !== undefined && isOver(known, generation);
  }

  /** Whether it is over, and the server has heard of all that ended there, without which it would not believe it. */
  isGivenUp(slice: string, generation: number): boolean {
    const known = this.#slices.get(numberOf(slice));
    return known !== undefined && isOver(known, generation) && (this.#upstream.through ?? -1) >= this.#givenUpAt(known);
  }

  /** The server does not believe what it was told: where it stands is asked anew, and nothing is given up before it said. */
  doubtServer(): void {
    this.#upstream.doubt();
  }

  #givenUpAt({ id, revision }: Slice): number {
    return this.#emptied.get(id) ?? revision;
  }

  /** What was granted, from a snapshot on. Nothing is handed over any more after the call of what is returned. */
  async follow(listener: (granted: Granted) => void): Promise<() => void> {
    const { reader, leases } = this.#table.engine;
    const { machine } = this.#parts;
    const early: Event[] = [];
    let hear = (events: readonly Event[]): void => {
      early.push(...events);
    };
    const stop = leases.onEvents((events) => hear(events));
    const state = await reader.desired(machine);
    // A table that was begun anew has not heard of the machine yet; what another granted is not to stay on the host.
    listener({ type: 'snapshot', desired: state ? presentDesired(state) : nothingOf(machine, this.epoch) });
    const tell = (events: readonly Event[]) => {
      for (const event of events)
        if (event.kind !== 'token' && event.kind !== 'router' && event.kind !== 'epoch' && concerns(event, machine))
          listener({ type: 'change', change: presentChange(event) });
    };
    tell(early);
    hear = tell;
    return stop;
  }

  /** What the agent made true: as a report to the server, and answered like one. */
  async applied({ leases, slices, clear = [] }: Applied): Promise<AppliedAnswer> {
    const told = await this.#table.engine.leases.execute({
      ...{ kind: 'report', machine: this.#parts.machine, revision: 0 },
      leases: leases.map((item) => ({ ...item, lease: numberOf(item.lease) })),
      slices: slices.map((item) => ({ ...item, slice: numberOf(item.slice) })),
      clear: clear.map((item) => ({ ...item, slice: numberOf(item.slice) })),
    });
    if (!told.ok) throw new Error(`the broker does not take what was made true: ${told.error.code}`);
    return { revision: told.value.revision, rejected: [...told.value.rejected] };
  }

  /** Carries out what the server was asked for, for whom it was asked, as if it had come over the socket. */
  async carryOut(request: ForwardedRequest): Promise<ForwardedAnswerInput> {
    const { id, request_id, method, path, body, idempotency_key, principal } = request;
    const secret = randomUUID();
    const { token, name, role, holder } = principal;
    const noQuota = { requestsPerS: null, requestsBurst: null, watchersMax: null };
    const machine = role === 'operator' || role === 'viewer' ? null : this.#parts.machine;
    const bearer = { secretHash: '', validUntil: Infinity, router: null, quota: noQuota };
    this.#forwarded.set(secret, { token, name, role, machine, holder, ...bearer });
    try {
      const answer = await this.#app.inject({
        ...{ method, url: path },
        headers: {
          ...{ [forwardedHeader]: secret, 'x-request-id': request_id },
          ...(idempotency_key === null ? {} : { 'idempotency-key': idempotency_key }),
          ...(body == null ? {} : { 'content-type': 'application/json' }),
        },
        ...(body == null ? {} : { payload: JSON.stringify(body) }),
      });
      const { 'content-type': type, 'retry-after': retryAfter, 'idempotency-replayed': replayed } = answer.headers;
      return {
        ...{ id, status: answer.statusCode },
        content_type: (type ?? 'application/json').split(';', 1)[0] ?? '',
        body: answer.body === '' ? null : (JSON.parse(answer.body) as unknown),
        ...(retryAfter === undefined ? {} : { retry_after_s: Number(retryAfter) }),
        ...(replayed === undefined ? {} : { replayed: true }),
      };
    } finally {
      this.#forwarded.delete(secret);
    }
  }

  /** Finishes answers, and leaves the table as it is on disk; one that is lost is put aside. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#app.close();
    await this.#telling;
    await this.#mirrored.catch(() => false);
    this.#feed.close();
    await this.#table.engine.stopSweeping();
    await this.#table.engine.close();
    if (this.#lost !== undefined) putAside(this.#parts.directory, this.#lost, this.#parts.log);
    rmSync(this.#parts.socket, { force: true });
  }

  #hear(events: readonly Event[]): void {
    for (const event of events) {
      this.#newest = Math.max(this.#newest, event.revision);
      if (event.kind !== 'slice') continue;
      const { id, state, revision } = event.slice;
      if (state === 'cooling') this.#emptied.set(id, revision);
      else if (state !== 'free') this.#emptied.delete(id);
      this.#slices.set(id, event.slice);
    }
    this.#feed.publish(events);
    this.#upstream.ring();
  }

  #callerOf(socket: Socket): Result<Caller & Readonly<{ peer: Peer }>, string> {
    const { machine, holders, cgroupOf } = this.#parts;
    const peer = peerOf(socket, cgroupOf);
    if (!peer) return err(nobodyThere);
    const found = principalOfPeer(peer, machine, holders());
    if (!found.ok) return found;
    const { role, holder } = found.value;
    return ok({ peer, key: `${peer.uid} ${holder ?? ''}`, isOperator: role === 'operator' });
  }

  #principalOf(request: FastifyRequest): Result<Principal, string> {
    const secret = request.headers[forwardedHeader];
    const forwarded = typeof secret === 'string' ? this.#forwarded.get(secret) : undefined;
    if (forwarded) return ok(forwarded);
    const caller = this.#door.callerAt(request.raw.socket);
    if (!caller) return err(nobodyThere);
    // Anew with each request: its holder may have gone meanwhile.
    return principalOfPeer(caller.peer, this.#parts.machine, this.#parts.holders());
  }

  #whyNothing(): string | undefined {
    if (this.#lost !== undefined) return `the table of this host's broker is begun anew: ${this.#lost}`;
    if (!this.#isMirrored) return 'the server has not said yet what this machine may grant';
    if (!this.#upstream.isConfirmed)
      return "the server has not said yet, since this broker started, that the broker's table lacks nothing";
    return this.#parts.cutOff();
  }

  #refusal(): ApiProblem | undefined {
    const why = this.#whyNothing();
    return why === undefined ? undefined : apiProblem('machine_cut_off', why, { retryAfterS: retry_after_s });
  }
}

const nothingOf = (machine: string, epoch: string): Desired => ({
  ...{ epoch, revision: 0, machine, state: 'cordoned', fence_s: 0 },
  ...{ pools: [], slices: [], holders: [], leases: [], blocked: [], revocations: [] },
});

/** The folder is root's; whoever may ask must be able to pass through it. */
function makeReachable(folder: string): void {
  makeDirectory(folder);
  const { mode, uid } = statSync(folder);
  if (uid === process.geteuid?.()) chmodSync(folder, (mode & 0o7777) | 0o111);
}

const page_rows = 1_000;
async function everything<T>(list: (page: PageRequest) => Promise<PageOf<T>>): Promise<readonly T[]> {
  const items: T[] = [];
  for (let cursor: string | null = null; ;) {
    const page: PageOf<T> = await list({ limit: page_rows, cursor });
    items.push(...page.items);
    if (page.next === null) return items;
    cursor = page.next;
  }
}
