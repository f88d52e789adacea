import type { z } from 'zod';
import type {
  AgentKeepalive,
  AgentKeepaliveAnswer,
  Applied,
  AppliedAnswer,
  Desired,
  EventList,
  EventsQuery,
  EventsWatchQuery,
  FlowAnswer,
} from '../wire/agent.ts';
import type {
  Attribution,
  AttributionHistory,
  AttributionHistoryQuery,
  AttributionQuery,
} from '../wire/attribution.ts';
import type { AuditEntry, AuditQuery } from '../wire/audit.ts';
import type { ForwardedAnswer, GrantedAnswer, GrantedReport } from '../wire/broker.ts';
import type { Explain, Explanation } from '../wire/explain.ts';
import type { Epoch, EpochConfirm } from '../wire/epochs.ts';
import type { Lease, LeaseGrant, LeaseList, LeaseListQuery, LeaseRevoke } from '../wire/leases.ts';
import type { Page, PageQuery } from '../wire/lists.ts';
import type {
  Holder,
  HolderListQuery,
  HolderPut,
  Machine,
  MachineCreate,
  MachineListQuery,
  MachineUpdate,
} from '../wire/machines.ts';
import type { Pool, PoolCreate, PoolListQuery, PoolUpdate } from '../wire/pools.ts';
import type { Revocation, RevocationCreate, RevocationListQuery } from '../wire/revocations.ts';
import type { RouteSnapshot, RoutesQuery } from '../wire/routes.ts';
import type { Router, RouterListQuery, RouterPut, RoutesApplied } from '../wire/routers.ts';
import type { About, Health, Readiness } from '../wire/server.ts';
import type { Session, SessionListQuery, SessionOpen } from '../wire/sessions.ts';
import type {
  AllocatorChange,
  ExtentList,
  Slice,
  SliceAssign,
  SliceDrain,
  SliceList,
  SliceListQuery,
  SliceMove,
  Unblock,
} from '../wire/slices.ts';
import type { TokenCreate, TokenCreated, TokenInfo, TokenListQuery, TokenRotate, TokenUpdate } from '../wire/tokens.ts';
import type { LogPosition } from './seen.ts';
import { Transport, type Call, type ClientOptions, type QueryValue } from './transport.ts';

/** What the caller may say about any call. */
export type CallOptions = Readonly<{ signal?: AbortSignal; timeoutMs?: number }>;
/** What may be said of a call that comes again without harm, or that is no request of its own. */
export type SayOptions = CallOptions &
  Readonly<{
    /** The answer is what would be, and nothing is changed. Identifiers in it are provisional. */
    dryRun?: boolean;
  }>;
export type ChangeOptions = SayOptions &
  Readonly<{
    /**
     * The request's own name, unlike any other's. Each call has a random one, by which it is carried out once however often
     * it is sent. Whoever writes theirs down first may send the request again after a crash, and get the same answer.
     */
    idempotencyKey?: string;
  }>;
/** A change is of what was seen, and nothing newer: pass what was read before, or `*` to change whatever is there. */
export type Seen = Readonly<{ id: string; revision: number | '*' }>;
export type PageOptions = z.input<typeof PageQuery>;

/**
 * `allocator: 'machine'`: the session or lease is one that the broker of `machine` granted, and what is asked for is
 * carried out there. Of the numbers of leases and sessions each broker has its own.
 */
export type WhoseOptions = Readonly<{ allocator?: 'server' | 'machine'; machine?: string }>;

/** `applied`: the answer comes when the agent has made the leases true. `stored`: as soon as they are durable. */
export type GrantOptions = ChangeOptions & Readonly<{ wait?: 'applied' | 'stored'; timeoutS?: number }>;

/** Unlike any other. It begins with the time, so that the server finds new ones side by side. */
const newKey = (): string => `${Date.now().toString(36)}-${crypto.randomUUID()}`;

/** Which routes: those that meet every condition given. `select` is about the labels of their pools. */
export type RouteFilter = Omit<z.input<typeof RoutesQuery>, 'format'>;

/** Which entries of the log: `kind` is a list with commas, like `lease,revocation`. */
export type EventFilter = Omit<z.input<typeof EventsWatchQuery>, 'after'>;

/** How long past its own deadline a grant's answer may still be under way. */
const grantMarginMs = 5_000;

/** Each line of a list may be passed on to an agent, which has two seconds. */
const bulkTimeoutMs = 120_000;

/**
 * The server's API, typed by the schemas that it validates with. Answers are not validated again here: they are JSON
 * from the server that the token was given to, and a strict check would make every field that a newer server adds into
 * an error of an older client. (This library's tests hold server and schemas together.)
 *
 * Calls are repeated on passing failures: reads, because nothing comes of them, and changes, because each has a key under
 * which the server carries it out once. Only what is kept alive is not: see there. All methods throw FisheryError.
 */
export class FisheryClient {
  readonly #transport: Transport;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
  }

  /** How far this client has followed the log, by what it was answered; undefined before the first answer. */
  get seen(): LogPosition | undefined {
    return this.#transport.seen.latest;
  }

  /** Says that the log was followed so far by a stream, in the epoch that the server told last. */
  reached(revision: number): void {
    this.#transport.seen.reach(revision);
  }

  readonly pools = {
    create: (body: z.input<typeof PoolCreate>, o?: ChangeOptions): Promise<Pool> => this.#post(['pools'], body, o),
    get: (id: string, o?: CallOptions): Promise<Pool> => this.#get(['pools', id], {}, o),
    list: (query: PoolListQuery = {}, o?: CallOptions): Promise<Page<Pool>> => this.#get(['pools'], query, o),
    update: (pool: Seen, body: z.input<typeof PoolUpdate>, o?: ChangeOptions): Promise<Pool> =>
      this.#change('PATCH', ['pools', pool.id], pool, body, o),
    delete: (pool: Seen, o?: ChangeOptions): Promise<void> =>
      this.#change('DELETE', ['pools', pool.id], pool, undefined, o),
  };

  readonly machines = {
    create: (body: z.input<typeof MachineCreate>, o?: ChangeOptions): Promise<Machine> =>
      this.#post(['machines'], body, o),
    get: (id: string, o?: CallOptions): Promise<Machine> => this.#get(['machines', id], {}, o),
    list: (query: MachineListQuery = {}, o?: CallOptions): Promise<Page<Machine>> => this.#get(['machines'], query, o),
    update: (machine: Seen, body: z.input<typeof MachineUpdate>, o?: ChangeOptions): Promise<Machine> =>
      this.#change('PATCH', ['machines', machine.id], machine, body, o),
    /** One that nothing lives on; its tokens are revoked. */
    delete: (machine: Seen, o?: ChangeOptions): Promise<void> =>
      this.#change('DELETE', ['machines', machine.id], machine, undefined, o),
    /** What `body` leaves out stays as it is. With `ifRevision` only a holder that is there, and as it was seen. */
    putHolder: (
      machine: string,
      name: string,
      body: z.input<typeof HolderPut>,
      { ifRevision: revision, ...o }: ChangeOptions & Partial<Readonly<{ ifRevision: Seen['revision'] }>> = {},
    ): Promise<Holder> =>
      revision === undefined
        ? this.#send('PUT', ['machines', machine, 'holders', name], body, o)
        : this.#change('PUT', ['machines', machine, 'holders', name], { revision }, body, o),
    /** One that nothing lives of; its tokens are revoked. */
    deleteHolder: (
      { machine, name, revision }: Readonly<{ machine: string; name: string }> & Pick<Seen, 'revision'>,
      o?: ChangeOptions,
    ): Promise<void> => this.#change('DELETE', ['machines', machine, 'holders', name], { revision }, undefined, o),
    holder: (machine: string, name: string, o?: CallOptions): Promise<Holder> =>
      this.#get(['machines', machine, 'holders', name], {}, o),
    holders: (machine: string, query: HolderListQuery = {}, o?: CallOptions): Promise<Page<Holder>> =>
      this.#get(['machines', machine, 'holders'], query, o),
  };

  readonly slices = {
    assign: (body: z.input<typeof SliceAssign>, o?: ChangeOptions): Promise<SliceList> =>
      this.#post(['slices'], body, o),
    get: (id: string, o?: CallOptions): Promise<Slice> => this.#get(['slices', id], {}, o),
    list: (query: z.input<typeof SliceListQuery> = {}, o?: CallOptions): Promise<Page<Slice>> =>
      this.#get(['slices'], query, o),
    extents: (id: string, o?: CallOptions): Promise<ExtentList> => this.#get(['slices', id, 'extents'], {}, o),
    drain: (slice: Seen, body: z.input<typeof SliceDrain> = {}, o?: ChangeOptions): Promise<Slice> =>
      this.#change('POST', ['slices', slice.id, 'drain'], slice, body, o),
    move: (slice: Seen, body: z.input<typeof SliceMove>, o?: ChangeOptions): Promise<Slice> =>
      this.#change('POST', ['slices', slice.id, 'move'], slice, body, o),
    /** From a machine that is fenced or lost. */
    reclaim: (slice: Seen, o?: ChangeOptions): Promise<Slice> =>
      this.#change('POST', ['slices', slice.id, 'reclaim'], slice, undefined, o),
    setAllocator: (slice: Seen, body: z.input<typeof AllocatorChange>, o?: ChangeOptions): Promise<Slice> =>
      this.#change('POST', ['slices', slice.id, 'allocator'], slice, body, o),
    unblock: (slice: Seen, body: z.input<typeof Unblock>, o?: ChangeOptions): Promise<Slice> =>
      this.#change('POST', ['slices', slice.id, 'unblock'], slice, body, o),
  };

  readonly sessions = {
    open: (body: z.input<typeof SessionOpen>, o?: ChangeOptions): Promise<Session> => this.#post(['sessions'], body, o),
    /** Of what a broker opened: as it was reported. */
    get: (id: string, o?: CallOptions & WhoseOptions): Promise<Session> => this.#get(['sessions', id], {}, o),
    list: (query: z.input<typeof SessionListQuery> = {}, o?: CallOptions): Promise<Page<Session>> =>
      this.#get(['sessions'], query, o),
    /** Not repeated by itself: whoever keeps a session alive knows how long there is left (see keepAlive). */
    keepalive: (id: string, o?: SayOptions & WhoseOptions): Promise<Session> =>
      this.#say(['sessions', id, 'keepalive'], undefined, o),
    /** Released for whoever holds it, revoked when an operator does it; all its leases end with it. */
    end: (id: string, o?: ChangeOptions & WhoseOptions): Promise<Session> =>
      this.#send('DELETE', ['sessions', id], undefined, o),
  };

  readonly leases = {
    /** One lease or many: all, or none. A claim that the host refused, here and elsewhere, rejects with code `claim_refused`. */
    grant: (body: z.input<typeof LeaseGrant>, options: GrantOptions & WhoseOptions = {}): Promise<LeaseList> => {
      const { wait, timeoutS = 10, ...rest } = options;
      return this.#post(
        ['leases'],
        body,
        { timeoutMs: timeoutS * 1_000 + grantMarginMs, ...rest },
        { wait, timeout_s: timeoutS },
      );
    },
    /** Of what a broker granted: as it was reported. */
    get: (id: string, o?: CallOptions & WhoseOptions): Promise<Lease> => this.#get(['leases', id], {}, o),
    list: (query: z.input<typeof LeaseListQuery> = {}, o?: CallOptions): Promise<Page<Lease>> =>
      this.#get(['leases'], query, o),
    /** Names the lease's token, so that a late release cannot end somebody else's lease. */
    release: (lease: Pick<Lease, 'id' | 'token'>, o?: ChangeOptions & WhoseOptions): Promise<Lease> =>
      this.#post(['leases', lease.id, 'release'], { token: lease.token }, o),
    revoke: (id: string, body: z.input<typeof LeaseRevoke> = {}, o?: ChangeOptions & WhoseOptions): Promise<Lease> =>
      this.#post(['leases', id, 'revoke'], body, o),
  };

  /** Leases taken back by the many. */
  readonly revocations = {
    create: (body: z.input<typeof RevocationCreate>, o?: ChangeOptions): Promise<Revocation> =>
      this.#post(['revocations'], body, o),
    get: (id: string, o?: CallOptions): Promise<Revocation> => this.#get(['revocations', id], {}, o),
    list: (query: z.input<typeof RevocationListQuery> = {}, o?: CallOptions): Promise<Page<Revocation>> =>
      this.#get(['revocations'], query, o),
  };

  /** What the agent of one machine says and asks. */
  readonly agent = {
    desired: (machine: string, o?: CallOptions): Promise<Desired> => this.#get(['machines', machine, 'desired'], {}, o),
    /** Not repeated by itself: what is true may have changed by then. */
    applied: (machine: string, body: z.input<typeof Applied>, o?: SayOptions): Promise<AppliedAnswer> =>
      this.#say(['machines', machine, 'applied'], body, o),
    /** Not repeated by itself: the fencing horizon counts from when an answered one was sent. */
    keepalive: (machine: string, body: AgentKeepalive, o?: SayOptions): Promise<AgentKeepaliveAnswer> =>
      this.#say(['machines', machine, 'keepalive'], body, o),
    flowAnswer: (machine: string, body: z.input<typeof FlowAnswer>, o?: CallOptions): Promise<void> =>
      this.#say(['machines', machine, 'flow-answers'], body, o),
    /** Not repeated by itself: who reports knows by `report_gap` where to go on. */
    granted: (machine: string, body: z.input<typeof GrantedReport>, o?: SayOptions): Promise<GrantedAnswer> =>
      this.#say(['machines', machine, 'granted'], body, o),
    /** To a request that came over the stream. */
    answer: (machine: string, body: z.input<typeof ForwardedAnswer>, o?: CallOptions): Promise<void> =>
      this.#say(['machines', machine, 'answers'], body, o),
    /** The raw stream of changes after `from`; `follow` makes it whole. */
    watch: (machine: string, from: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> =>
      this.#transport.openStream(['v1', 'machines', machine, 'watch'], { from }, signal),
  };

  /** Where packets that come back belong. */
  readonly routes = {
    get: (filter: RouteFilter = {}, o?: CallOptions): Promise<RouteSnapshot> => this.#get(['routes'], filter, o),
    /** As RFC 4180 has it, with a header line. */
    csv: (filter: RouteFilter = {}, o: CallOptions = {}): Promise<string> => this.#routesAs('csv', filter, o),
    /** A file for `nft -f`. */
    nft: (filter: RouteFilter = {}, o: CallOptions = {}): Promise<string> => this.#routesAs('nft', filter, o),
    /** The raw stream of changes after `from`; `followRoutes` makes it whole. */
    watch: (filter: RouteFilter, from: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> =>
      this.#transport.openStream(['v1', 'routes', 'watch'], { ...filter, from }, signal),
  };

  readonly routers = {
    put: (id: string, body: z.input<typeof RouterPut> = {}, o?: ChangeOptions): Promise<Router> =>
      this.#send('PUT', ['routers', id], body, o),
    get: (id: string, o?: CallOptions): Promise<Router> => this.#get(['routers', id], {}, o),
    list: (query: RouterListQuery = {}, o?: CallOptions): Promise<Page<Router>> => this.#get(['routers'], query, o),
    delete: (id: string, o?: ChangeOptions): Promise<void> => this.#send('DELETE', ['routers', id], undefined, o),
    /** Everything that was told about routes through `revision` is true on the router. May be said twice. */
    applied: (id: string, body: RoutesApplied, o?: SayOptions): Promise<Router> =>
      this.#say(['routers', id, 'applied'], body, o, { repeatable: true }),
  };

  readonly tokens = {
    create: (body: TokenCreate, o?: ChangeOptions): Promise<TokenCreated> => this.#post(['tokens'], body, o),
    get: (id: string, o?: CallOptions): Promise<TokenInfo> => this.#get(['tokens', id], {}, o),
    /** What the token that this client has is, and until when. */
    self: (o?: CallOptions): Promise<TokenInfo> => this.#get(['tokens', 'self'], {}, o),
    list: (query: TokenListQuery = {}, o?: CallOptions): Promise<Page<TokenInfo>> => this.#get(['tokens'], query, o),
    update: (id: string, body: TokenUpdate, o?: ChangeOptions): Promise<TokenInfo> =>
      this.#send('PATCH', ['tokens', id], body, o),
    /** A new secret; the one before it is accepted for `grace_s` more. */
    rotate: (id: string, body: TokenRotate = {}, o?: ChangeOptions): Promise<TokenCreated> =>
      this.#post(['tokens', id, 'rotate'], body, o),
    revoke: (id: string, o?: ChangeOptions): Promise<TokenInfo> => this.#send('DELETE', ['tokens', id], undefined, o),
  };

  /** What the server says about itself; most of it to anybody. */
  readonly server = {
    about: (o?: CallOptions): Promise<About> => this.#outside([''], o),
    health: (o?: CallOptions): Promise<Health> => this.#outside(['healthz'], o),
    /** Rejects with code `not_ready` when it cannot serve now. */
    readiness: (o?: CallOptions): Promise<Readiness> => this.#outside(['readyz'], o),
    /** In the text format of Prometheus. */
    metrics: (o?: CallOptions): Promise<string> => this.#outside(['metrics'], { ...o, text: 'text/plain' }),
    openApi: (o?: CallOptions): Promise<Readonly<Record<string, unknown>>> => this.#outside(['openapi.json'], o),
    /** Whether the table may lack what was answered before. */
    epoch: (o?: CallOptions): Promise<Epoch> => this.#get(['server', 'epoch'], {}, o),
    /** Answers for it that nobody uses a port that the table would give to another; `read_only_epoch` is over then. */
    confirmEpoch: (body: EpochConfirm, o?: ChangeOptions): Promise<Epoch> =>
      this.#post(['server', 'confirm-epoch'], body, o),
  };

  /** What would come of claims, and why: their leases, or the reason why there would be none. Grants nothing. */
  explain(body: z.input<typeof Explain>, o?: CallOptions & WhoseOptions): Promise<Explanation> {
    return this.#say(['explain'], body, o, { repeatable: true });
  }

  events(query: z.input<typeof EventsQuery> = {}, o?: CallOptions): Promise<EventList> {
    return this.#get(['events'], query, o);
  }

  /** The raw stream of the log after revision `after`; `followEvents` makes it whole. */
  watchEvents(filter: EventFilter, after: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    return this.#transport.openStream(['v1', 'events', 'watch'], { ...filter, after }, signal);
  }

  /** Who did what, the newest first. */
  audit(query: AuditQuery = {}, o?: CallOptions): Promise<Page<AuditEntry>> {
    return this.#get(['audit'], query, o);
  }

  /** Who had this address and port at that time. */
  attribution(query: z.input<typeof AttributionQuery>, o?: CallOptions): Promise<Attribution> {
    return this.#get(['attribution'], query, o);
  }

  /** Who had a port, or what a holder had, within a time: `everyItem((page) => client.attributionHistory({ ...page, … }))`. */
  attributionHistory(query: z.input<typeof AttributionHistoryQuery>, o?: CallOptions): Promise<AttributionHistory> {
    return this.#get(['attribution', 'history'], query, o);
  }

  /** A list of questions as text, answered by a list of the same kind; `attributeAll` takes and gives values instead. */
  attributionBulk(list: string, type: 'text/csv' | 'application/x-ndjson', o: CallOptions = {}): Promise<string> {
    const path = ['attribution', 'bulk'];
    const body = { body: list, bodyType: type, text: type };
    return this.#call({ method: 'POST', path, ...body, repeatable: true, timeoutMs: bulkTimeoutMs, ...o });
  }

  #routesAs(format: 'csv' | 'nft', filter: RouteFilter, o: CallOptions): Promise<string> {
    const text = format === 'csv' ? 'text/csv' : 'text/plain';
    return this.#call({ method: 'GET', path: ['routes'], query: { ...filter, format }, text, repeatable: true, ...o });
  }

  #get<T>(
    path: readonly string[],
    query: Readonly<Record<string, QueryValue>>,
    { allocator, machine, ...o }: CallOptions & WhoseOptions = {},
  ): Promise<T> {
    const whole = allocator === undefined ? query : { ...query, allocator, machine };
    return this.#call({ method: 'GET', path, query: whole, repeatable: true, ...o });
  }

  #post<T>(
    path: readonly string[],
    body: unknown,
    o?: ChangeOptions & WhoseOptions,
    query?: Readonly<Record<string, QueryValue>>,
  ): Promise<T> {
    return this.#request({ method: 'POST', path, body, ...(query === undefined ? {} : { query }) }, o);
  }

  #send<T>(
    method: 'PUT' | 'PATCH' | 'DELETE',
    path: readonly string[],
    body: unknown,
    o?: ChangeOptions & WhoseOptions,
  ): Promise<T> {
    return this.#request({ method, path, body }, o);
  }

  /** A change of what was seen: refused with `precondition_failed` when somebody changed it since. */
  #change<T>(
    method: 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: readonly string[],
    { revision }: Pick<Seen, 'revision'>,
    body: unknown,
    o?: ChangeOptions,
  ): Promise<T> {
    return this.#request({ method, path, body, headers: { 'if-match': revision === '*' ? '*' : `"${revision}"` } }, o);
  }

  /** A request that the server carries out once, however often it arrives: it has a key, and may be repeated. */
  #request<T>(
    call: Omit<Call, 'repeatable'>,
    { dryRun, idempotencyKey, allocator, machine, ...o }: ChangeOptions & WhoseOptions = {},
  ): Promise<T> {
    return this.#call({
      ...call,
      query: { ...call.query, dry_run: dryRun, allocator, machine },
      headers: { ...call.headers, 'idempotency-key': idempotencyKey ?? newKey() },
      repeatable: true,
      ...o,
    });
  }

  /** What is true now, said without a key: it is harmless to hear it twice. */
  #say<T>(
    path: readonly string[],
    body: unknown,
    { dryRun, allocator, machine, ...o }: SayOptions & WhoseOptions = {},
    { repeatable = dryRun === true } = {},
  ): Promise<T> {
    return this.#call({ method: 'POST', path, query: { dry_run: dryRun, allocator, machine }, body, repeatable, ...o });
  }

  #call<T>(call: Call): Promise<T> {
    return this.#believed({ ...call, path: ['v1', ...call.path] });
  }

  /** A read outside of /v1. */
  #outside<T>(path: readonly string[], o: CallOptions & Readonly<{ text?: string }> = {}): Promise<T> {
    return this.#believed({ method: 'GET', path, repeatable: true, ...o });
  }

  // The one place where the contract is believed: what the schemas say an answer is, it is.
  async #believed<T>(call: Call): Promise<T> {
    return (await this.#transport.call(call)) as T;
  }
}

/** Every item of a paged list: `for await (const lease of everyItem((page) => client.leases.list({ ...page, machine })))`. */
export async function* everyItem<T>(list: (page: PageOptions) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  for (let cursor: string | undefined; ;) {
    const page = await list(cursor === undefined ? {} : { cursor });
    yield* page.items;
    if (page.next === null) return;
    cursor = page.next;
  }
}
