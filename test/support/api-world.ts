import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { z } from 'zod';
import { buildApp } from '../../src/api/app.ts';
import { formatSecret, hashSecret } from '../../src/api/bearer.ts';
import { errorsOf } from '../../src/api/openapi.ts';
import { defaultLimits, type Limits } from '../../src/api/parts.ts';
import type { TlsListener } from '../../src/api/tls.ts';
import { Feed } from '../../src/feed/feed.ts';
import type { Command, CommandKind, Output } from '../../src/leases/commands.ts';
import { LeaseService } from '../../src/leases/lease-service.ts';
import type { Store } from '../../src/leases/store.ts';
import type { Role } from '../../src/leases/model.ts';
import { packageVersion } from '../../src/ops/version.ts';
import { AgentKeepaliveAnswer, AppliedAnswer } from '../../src/wire/agent.ts';
import { type Lease, LeaseList } from '../../src/wire/leases.ts';
import { Holder, Machine } from '../../src/wire/machines.ts';
import { Pool } from '../../src/wire/pools.ts';
import { Problem } from '../../src/wire/problems.ts';
import { Router } from '../../src/wire/routers.ts';
import { Session } from '../../src/wire/sessions.ts';
import { Slice, SliceList } from '../../src/wire/slices.ts';
import { readTables } from './stored-tables.ts';
import { temporaryStore, type TemporaryStore } from './temporary-store.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type CallOptions = Readonly<{
  /** A secret; null: no token at all. Default: the operator's. */
  token?: string | null;
  body?: unknown;
  /** null: none at all. Default: `*`, but for PUT, which may make what is not there. */
  ifMatch?: string | null;
  /** Instead of `body`, as it is. */
  payload?: string | Buffer;
  headers?: Readonly<Record<string, string>>;
}>;
/** What came back, to be looked at through a schema: nothing in a test is taken on faith. */
export class Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;

  constructor(status: number, headers: Readonly<Record<string, unknown>>, text: string) {
    this.status = status;
    this.headers = headers;
    this.text = text;
  }

  as<T extends z.ZodType>(schema: T): z.output<T> {
    if (this.status >= 300) throw new Error(`${this.status} ${this.text}`);
    return schema.parse(JSON.parse(this.text));
  }

  /** The problem document; throws when the answer is none. */
  get problem(): Problem {
    return Problem.parse(JSON.parse(this.text));
  }

  /** The problem's code; undefined for an answer that is no problem. */
  get code(): string | undefined {
    return String(this.headers['content-type']).startsWith('application/problem+json') ? this.problem.code : undefined;
  }

  /** The problem's status and code, as tests compare them. */
  get refusal(): readonly [number, string | undefined] {
    return [this.status, this.code];
  }

  /** Paths of the wrong parts of the request, in order. */
  get paths(): readonly string[] {
    return (this.problem.errors ?? []).map(({ path }) => path);
  }
}

export type LeaseReportState = 'active' | 'refused' | 'empty';

/** A clock that only moves when told to, but never stands still between two looks. */
export class HandClock {
  now = 1_769_868_000_000_000;
  nowUs(): number {
    return ++this.now;
  }
  advance_s(s: number): void {
    this.now += s * 1_000_000;
  }
}

export type WorldOptions = Readonly<{ limits?: Partial<Limits>; metricsOpen?: boolean; tls?: TlsListener }>;

/**
 * The whole API over a SQLite store in a directory of its own, with an operator's token. Every answer that leaves it is held against what the OpenAPI
 * document says of its operation: status, media type, schema and problem code.
 */
export class ApiWorld implements AsyncDisposable {
  readonly clock = new HandClock();
  readonly store: Store;
  readonly service: LeaseService;
  readonly feed: Feed;
  readonly app: FastifyInstance;
  readonly undocumented: string[] = [];
  readonly logged: string[] = [];
  operator = '';
  /** Set by a test: what the next writes fail with. */
  failure: Error | undefined;
  readonly #temporary: TemporaryStore;
  #tokens = 0;

  private constructor(temporary: TemporaryStore, options: WorldOptions) {
    this.#temporary = temporary;
    this.store = temporary.store;
    const { store } = this;
    this.service = new LeaseService({
      store: {
        transact: async (work) => {
          if (this.failure !== undefined) throw this.failure;
          return store.transact(work);
        },
        compact: (step) => store.compact(step),
        prune: (step) => store.prune(step),
        forget: (step) => store.forget(step),
        onForeignCommit: (wake) => store.onForeignCommit(wake),
        reader: store.reader,
        close: () => store.close(),
      },
      clock: this.clock,
    });
    this.feed = new Feed({ log: this.store.reader });
    this.service.onEvents((events) => this.feed.publish(events));
    this.app = buildApp({
      leases: this.service,
      reader: this.store.reader,
      feed: this.feed,
      clock: this.clock,
      logger: pino({ level: 'trace' }, { write: (line: string) => void this.logged.push(line) }),
      version: packageVersion(),
      randomBytes,
      metricsOpen: options.metricsOpen ?? true,
      processMetrics: false,
      limits: { ...defaultLimits, ...options.limits },
      ...(options.tls && { tls: options.tls }),
    });
    this.#holdToItsWord();
  }

  /** Where the store is. */
  get directory(): string {
    return this.#temporary.directory;
  }

  static async open(options: WorldOptions = {}): Promise<ApiWorld> {
    const world = new ApiWorld(await temporaryStore(), options);
    world.operator = await world.token('operator');
    await world.app.ready();
    return world;
  }

  /** Has the core carry out a command that must succeed. */
  async run<K extends CommandKind>(command: Command<K>): Promise<Output<K>> {
    const result = await this.service.execute(command);
    if (!result.ok) throw new Error(`${command.kind}: ${JSON.stringify(result.error)}`);
    return result.value;
  }

  /** The secret of a new token. */
  async token(
    role: Role,
    machine: string | null = null,
    holder: string | null = null,
    router: string | null = null,
  ): Promise<string> {
    const secret = formatSecret(randomBytes(32));
    const name = `t${++this.#tokens}`;
    await this.run({ kind: 'createToken', name, role, machine, holder, router, hash: hashSecret(secret) });
    return secret;
  }

  async call(method: Method, url: string, options: CallOptions = {}): Promise<Answer> {
    const token = options.token === undefined ? this.operator : options.token;
    const hasBody = options.body !== undefined || options.payload !== undefined;
    const { ifMatch = method === 'PUT' ? null : '*' } = options;
    const response = await this.app.inject({
      method,
      url,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(hasBody ? { 'content-type': 'application/json' } : {}),
        // Whatever it is that is changed; tests of preconditions say otherwise.
        ...(ifMatch === null ? {} : { 'if-match': ifMatch }),
        ...options.headers,
      },
      ...(hasBody ? { payload: options.payload ?? JSON.stringify(options.body) } : {}),
    });
    return new Answer(response.statusCode, response.headers, response.body);
  }

  /** Like `call`, for an answer that must be a success: through its schema. */
  async must<T extends z.ZodType>(
    schema: T,
    method: Method,
    url: string,
    options: CallOptions = {},
  ): Promise<z.output<T>> {
    const answer = await this.call(method, url, options);
    if (answer.status >= 300) throw new Error(`${method} ${url}: ${answer.status} ${answer.text}`);
    return answer.as(schema);
  }

  async openSession(token: string, machine: string, holder: string, ttl_s = 3_600): Promise<Session> {
    return this.must(Session, 'POST', '/v1/sessions', { token, body: { machine, holder, ttl_s } });
  }

  /** Leases that are durable and still pending, one for each claim. */
  async grant(token: string, session: string, claims: readonly object[]): Promise<Lease[]> {
    const body = { session, claims };
    return (await this.must(LeaseList, 'POST', '/v1/leases?wait=stored', { token, body })).leases;
  }

  /** Has the requests that were turned away written down, which the app does now and then. */
  async denials(): Promise<void> {
    await this.app.flushDenials();
  }

  /** What the agent of a machine says of leases, all of which must be accepted. */
  async report(agent: string, machine: string, leases: readonly Lease[], state: LeaseReportState): Promise<void> {
    const refusal = (lease: Lease) =>
      state === 'refused'
        ? { errno: 'EADDRINUSE', detail: `port ${lease.ports.first} is bound by sshd (pid 812)` }
        : {};
    const reports = leases.map((lease) => ({ lease: lease.id, token: lease.token, state, ...refusal(lease) }));
    const body = { revision: 0, leases: reports, slices: [] };
    const { rejected } = await this.must(AppliedAnswer, 'POST', `/v1/machines/${machine}/applied`, {
      token: agent,
      body,
    });
    if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
  }

  /**
   * Everything that is in the store as text, to be compared with what is in it later; but for who asked for what, which is
   * written down whatever came of it.
   */
  snapshot(): string {
    const { tables: all, events } = readTables(this.#temporary.directory);
    const { audit: _, ...tables } = all;
    const rows = { ...Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, [...table]])), events };
    return JSON.stringify(rows, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value), 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.app.close();
    this.feed.close();
    await this.service.close();
    await this.#temporary[Symbol.asyncDispose]();
    if (this.undocumented.length > 0) throw new Error(`not as documented:\n${this.undocumented.join('\n')}`);
  }

  #holdToItsWord(): void {
    this.app.addHook('onSend', async (request, reply, payload) => {
      const { operation } = request.routeOptions.config;
      if (operation === undefined || typeof payload !== 'string') return;
      // The body of a HEAD is taken off later.
      if (reply.statusCode === 304 && operation.revision === 'shown') return;
      const route = this.app.operations.find((candidate) => candidate.operation.id === operation.id);
      if (route === undefined) return;
      const complain = (what: string) =>
        this.undocumented.push(`${operation.id} ${reply.statusCode}: ${what}: ${payload.slice(0, 300)}`);
      const type = String(reply.getHeader('content-type'));
      if (reply.statusCode >= 400) {
        const problem = Problem.safeParse(JSON.parse(payload));
        if (!/^application\/problem\+json/.test(type)) complain(`media type ${type}`);
        if (!problem.success) complain(z.prettifyError(problem.error));
        else if (!errorsOf(route).some((code) => code === problem.data.code)) complain('code is not documented');
        return;
      }
      const schema = route.answers[reply.statusCode];
      if (schema === undefined) return void complain('status is not documented');
      if (!/^application\/json/.test(type)) return;
      const parsed = schema.safeParse(JSON.parse(payload));
      if (!parsed.success) complain(z.prettifyError(parsed.error));
    });
  }
}

export const prefixOfTests = '198.51.100.0/28';

export type Furnished = Readonly<{
  world: ApiWorld;
  viewer: string;
  /** Of the machine `edge-1`, which has an agent, the fish `fish`, and the proxies `haproxy` and `squid`. */
  agent: string;
  haproxy: string;
  squid: string;
  /** Of the machine `edge-2`, which has an agent. */
  otherAgent: string;
  /** Of the proxy `haproxy` on the machine `edge-2`. */
  otherHolder: string;
  /** Of the router `border-1`. */
  router: string;
  /** On `edge-1`: 198.51.100.0, ports 8192 to 10239, assigned. */
  slice: string;
}>;

/** A pool, two machines with agents, holders, one assigned slice each, and a token for everybody. */
export async function furnished(options: WorldOptions = {}): Promise<Furnished> {
  const world = await ApiWorld.open(options);
  await world.must(Pool, 'POST', '/v1/pools', {
    body: {
      id: 'fra1',
      prefixes: [prefixOfTests],
      usable_ports: { first: 8_192, last: 65_535 },
      cooldown_s: { tcp: 10, udp: 10, icmp: 10 },
    },
  });
  const slices: string[] = [];
  for (const machine of ['edge-1', 'edge-2']) {
    await world.must(Machine, 'POST', '/v1/machines', { body: { id: machine } });
    const put = (name: string, body: object) =>
      world.must(Holder, 'PUT', `/v1/machines/${machine}/holders/${name}`, { body });
    await put('fish', { kind: 'fish' });
    await put('haproxy', { kind: 'proxy', uid: 1_001 });
    await put('squid', { kind: 'proxy', uid: 1_002 });
    const token = await world.token('agent', machine);
    const assigned = await world.must(SliceList, 'POST', '/v1/slices', { body: { machine, pool: 'fra1' } });
    const slice = assigned.slices[0]?.id ?? '';
    slices.push(slice);
    await world.must(AgentKeepaliveAnswer, 'POST', `/v1/machines/${machine}/keepalive`, {
      token,
      body: { boot_id: 'boot', version: '0.1.0', applied_revision: 0 },
    });
    await world.must(AppliedAnswer, 'POST', `/v1/machines/${machine}/applied`, {
      token,
      body: { revision: 0, leases: [], slices: [{ slice, generation: 1, state: 'assigned' }] },
    });
  }
  await world.must(Router, 'PUT', '/v1/routers/border-1', { body: {} });
  return {
    world,
    viewer: await world.token('viewer'),
    agent: await world.token('agent', 'edge-1'),
    haproxy: await world.token('holder', 'edge-1', 'haproxy'),
    squid: await world.token('holder', 'edge-1', 'squid'),
    otherAgent: await world.token('agent', 'edge-2'),
    otherHolder: await world.token('holder', 'edge-2', 'haproxy'),
    router: await world.token('router', null, null, 'border-1'),
    slice: slices[0] ?? '',
  };
}

/** Hands the slice of `edge-1` over to the machine, to grant in itself; it is of generation 2 then. */
export async function handOver({ world, slice, agent }: Furnished): Promise<void> {
  const say = (generation: number, state: 'assigned' | 'empty') =>
    world.must(AppliedAnswer, 'POST', '/v1/machines/edge-1/applied', {
      token: agent,
      body: { revision: 0, leases: [], slices: [{ slice, generation, state }] },
    });
  await world.must(Slice, 'POST', `/v1/slices/${slice}/allocator`, { body: { allocator: 'machine' } });
  await say(1, 'empty');
  world.clock.advance_s(11);
  // What rested in it first, then the slice itself.
  for (let round = 0; round < 3; round++) await world.run({ kind: 'sweep', itemsMax: 100 });
  await say(2, 'assigned');
}
