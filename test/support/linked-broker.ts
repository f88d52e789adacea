import { cpSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockedOnHost } from '../../src/agent/leases/blocked-on-host.ts';
import { BrokerOnHost } from '../../src/agent/broker-on-host.ts';
import { DesiredMachine } from '../../src/agent/server/desired.ts';
import type { LeaseOutcome } from '../../src/agent/leases/lease-host.ts';
import { Reports } from '../../src/agent/server/reports.ts';
import { SlicesOnHost } from '../../src/agent/leases/slices-on-host.ts';
import { UnitsOnHost } from '../../src/agent/leases/units-on-host.ts';
import { Bell, isOver } from '../../src/agent/start/waiting.ts';
import { Broker } from '../../src/broker/broker.ts';
import { openEngine, type Engine, type EngineListeners, type EngineOptions } from '../../src/engine/engine.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { FisheryClient, FisheryError, follow, isFisheryError, type Followed } from '../../src/sdk/index.ts';
import type { AppliedAnswer } from '../../src/wire/agent.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { ownUid } from './broker-world.ts';
import { Link } from './link.ts';
import { RealServer, type LiveServer } from './real-server.ts';

type Life = { isKilled: boolean };

type LinkedBrokerParts = Readonly<{
  machine: string;
  fenceMs?: number;
  ownsServer: boolean;
  /** Whether nothing is told when nothing happens: what travels is what comes of what is done. */
  isSparing?: boolean;
}>;

/** For so long an upstream waits when nothing happens; in production, at least. */
const quiet_ms = 5_000;

/** Whether one port is in both. */
export const overlap = (a: Lease, b: Lease): boolean =>
  a.address === b.address &&
  a.protocol === b.protocol &&
  a.ports.first <= b.ports.last &&
  b.ports.first <= a.ports.last;

/**
 * A real server and the broker of one machine, with what the agent does between them; the host makes everything true at
 * once. The classes are the agent's own, but for the host.
 */
export class LinkedBroker<Server extends LiveServer = RealServer> implements AsyncDisposable {
  readonly link = new Link();
  readonly server: Server;
  readonly directory = mkdtempSync(join(tmpdir(), 'fishery-linked-'));
  readonly socket = join(this.directory, 'broker.sock');
  readonly #ending = new AbortController();
  readonly #client: FisheryClient;
  readonly machine: string;
  readonly #ownsServer: boolean;
  readonly #desired: DesiredMachine;
  /** How long the guard stays open after a keepalive was sent; undefined: nobody sends any, and it is open always. */
  readonly #fenceMs: number | undefined;
  #answeredAt = -Infinity;
  /** What was heard of the server up to here is true on the host. */
  #applied = 0;
  /** Of the table that is open. */
  #life: Life = { isKilled: false };
  /** What is on the host: who may send from where. Told as it comes, and as it goes. */
  readonly #up = new Map<string, Lease>();
  /** How long the host takes to let go of a lease that ends, drawn for each; milliseconds. */
  slownessMs: () => number = () => 0;
  /** When each will be let go of. */
  readonly #goingAt = new Map<string, number>();
  onUp: (lease: Lease) => void = () => {};
  onDown: (lease: Lease) => void = () => {};
  /** The guard was shut, and is about to open. */
  onOpen: () => void = () => {};
  readonly #slices = new SlicesOnHost();
  readonly #bell = new Bell();
  readonly #reports: Reports;
  readonly #host: BrokerOnHost;
  #broker: Broker | undefined;
  #engine: Engine | undefined;
  #hasSnapshot = false;
  #listening = new AbortController();
  #isAway = false;
  readonly #own: Reports;
  readonly #tasks: Promise<unknown>[];
  #pass: Promise<void> = Promise.resolve();

  private constructor(
    server: Server,
    token: string,
    { machine, fenceMs, ownsServer, isSparing = false }: LinkedBrokerParts,
  ) {
    this.server = server;
    this.machine = machine;
    this.#fenceMs = fenceMs;
    this.#ownsServer = ownsServer;
    this.#desired = new DesiredMachine(machine);
    const { signal } = this.#ending;
    const log = createLogger({ level: 'silent' });
    this.#client = new FisheryClient({
      url: server.url,
      token,
      fetch: this.link.fetch,
      attemptsMax: 1,
      timeoutMs: 5_000,
    });
    const pause = async () => {
      await sleep(isSparing ? 2 : 20);
    };
    const newReports = (send: ConstructorParameters<typeof Reports>[0]['send']) =>
      new Reports({ send, isHopeless: () => false, pause, log });
    this.#reports = newReports((applied) => this.#client.agent.applied(machine, applied));
    const own = newReports(async (applied): Promise<AppliedAnswer> => (await this.#running()).applied(applied));
    this.#own = own;
    const sockets = { sockets: () => [], pingSockets: () => [], processesOf: () => new Map(), destroy: () => 0 };
    const cgroups = {
      idOf: () => undefined,
      idsWithin: () => new Set<string>(),
      pathOf: () => undefined,
      problem: undefined,
    };
    const now = () => performance.now();
    this.#host = new BrokerOnHost({
      ...{ machine, reports: own, log, now },
      blocked: new BlockedOnHost({ sockets, cgroups, isOurMark: () => false, now }),
      units: new UnitsOnHost({ goneOf: async () => new Set(), log, now }),
      hasTable: () => true,
      onTouched: () => this.#bell.ring(),
      kick: () => this.#bell.ring(),
      start: async (listeners) => {
        const started = await Broker.start({
          ...{
            machine,
            directory: this.table,
            socket: this.socket,
            version: '0',
            log,
            ...listeners,
          },
          cutOff: () => (this.isGuardOpen ? undefined : 'no keepalive was answered'),
          serverNowUs: () => Date.now() * 1_000,
          holders: () => this.#desired.holders.values(),
          cgroupOf: () => undefined,
          startEngine: (options, listeners) => this.#openTable(options, listeners),
          send: async (report) => {
            try {
              return { ok: true, answer: await this.#client.agent.granted(machine, report) };
            } catch (error) {
              if (!(error instanceof FisheryError)) throw error;
              const gap = error.problem?.broker;
              return gap ? { ok: false, gap } : { ok: false, problem: error.message };
            }
          },
          doze: async (ms, until) => {
            // Nobody wants to wait for what waits in production so that others come first.
            const most = isSparing ? (ms < quiet_ms ? 2 : Infinity) : 20;
            await sleep(Math.min(ms, most), undefined, { signal: until }).catch(() => {});
          },
        });
        if (started.ok) this.#broker = started.value;
        return started;
      },
    });
    this.#reports.onRejected = (rejection) => this.#host.hearRejected(rejection, this.#desired, this.#slices);
    this.#tasks = [
      ...[this.#follow(signal), this.#passes(signal), this.#reports.run(signal), own.run(signal)],
      ...(fenceMs === undefined ? [] : [this.#keepAlive(fenceMs, signal)]),
    ];
  }

  get isGuardOpen(): boolean {
    return this.#fenceMs === undefined || performance.now() < this.#answeredAt + this.#fenceMs;
  }

  async #keepAlive(fenceMs: number, signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      await this.beat(fenceMs / 3);
      await sleep(fenceMs / 8);
    }
  }

  /** One keepalive; whether it was answered. Where it was not, the guard shuts by itself. */
  async beat(timeoutMs: number): Promise<boolean> {
    const sentAt = performance.now();
    try {
      const body = { boot_id: `boot of ${this.machine}`, version: '0', applied_revision: this.#applied };
      await this.#client.agent.keepalive(this.machine, body, { timeoutMs });
    } catch {
      return false;
    }
    const wasOpen = this.isGuardOpen;
    this.#answeredAt = sentAt;
    if (!wasOpen) this.onOpen();
    return true;
  }

  /** When the last keepalive was sent that was answered: from then on the guard has its time. Microseconds since 1970. */
  get answeredAtUs(): number {
    return (performance.timeOrigin + this.#answeredAt) * 1_000;
  }

  /** Of what is killed nothing is answered any more, and nothing is written. */
  async #openTable(options: EngineOptions, listeners: EngineListeners): Promise<Engine> {
    const engine = await openEngine(options, listeners);
    this.#engine = engine;
    const life: Life = { isKilled: false };
    this.#life = life;
    const isKilled = () => life.isKilled;
    const alive = () => {
      if (isKilled()) throw new Error('the broker was killed');
    };
    const { leases } = engine;
    const execute: typeof leases.execute = async (command, terms) => {
      alive();
      const answer = await leases.execute(command, terms);
      alive();
      return answer;
    };
    const onEvents: typeof leases.onEvents = (listener) =>
      leases.onEvents((events) => {
        if (!isKilled()) listener(events);
      });
    return { ...engine, leases: { execute, onEvents, health: () => leases.health() } };
  }

  static async open(
    limits: Parameters<typeof RealServer.start>[0] = {},
    more: Pick<LinkedBrokerParts, 'isSparing'> = {},
  ): Promise<LinkedBroker> {
    const server = await RealServer.start(limits);
    const { client } = server;
    const rest = { tcp: 0, udp: 0, icmp: 0 };
    await client.pools.create({ id: 'pool', prefixes: ['198.51.100.0/30'], cooldown_s: rest });
    return LinkedBroker.#on(server, { machine: 'edge', ownsServer: true, ...more });
  }

  /** Another machine of a server that is somebody else's to close. */
  static join<Server extends LiveServer>(
    server: Server,
    machine: string,
    fence_s?: number,
    more: Pick<LinkedBrokerParts, 'isSparing'> = {},
  ): Promise<LinkedBroker<Server>> {
    return LinkedBroker.#on(server, {
      machine,
      ownsServer: false,
      ...(fence_s === undefined ? {} : { fence_s }),
      ...more,
    });
  }

  static async #on<Server extends LiveServer>(
    server: Server,
    { fence_s, ...parts }: Omit<LinkedBrokerParts, 'fenceMs'> & Readonly<{ fence_s?: number }>,
  ): Promise<LinkedBroker<Server>> {
    const { client } = server;
    const { machine } = parts;
    await client.machines.create({ id: machine, fence_s: fence_s ?? 3_600 });
    await client.machines.putHolder(machine, 'web', { kind: 'proxy', uid: ownUid === 0 ? 2_001 : ownUid });
    const { secret } = await client.tokens.create({ name: `agent-${machine}`, role: 'agent', machine });
    const fence = fence_s === undefined ? {} : { fenceMs: fence_s * 1_000 };
    return new LinkedBroker(server, secret, { ...parts, ...fence });
  }

  /** Over the broker's own socket. */
  local(attemptsMax?: number): FisheryClient {
    return new FisheryClient({ url: `unix:${this.socket}`, ...(attemptsMax === undefined ? {} : { attemptsMax }) });
  }

  get broker(): Broker {
    if (!this.#broker) throw new Error('no broker runs');
    return this.#broker;
  }

  /** Whose ports are shut for everybody else. */
  get held(): readonly Lease[] {
    return [...this.#up.values()];
  }

  /** Whether nothing is under way, here or to the server, and the server has heard of everything. */
  get isAtRest(): boolean {
    const isReported = this.#broker === undefined || this.#broker.status().untold === 0;
    const isTold = this.#reports.waiting === 0 && this.#own.waiting === 0 && !this.#isAway && isReported;
    const isMoving = [...this.#host.desired.leases.values()].some(({ state }) => state !== 'active');
    return isTold && !isMoving && this.isListening;
  }

  /** Whether it knows what the server wants, and hears what comes; nothing is under way. */
  get isListening(): boolean {
    return this.link.isQuiet && this.#hasSnapshot;
  }

  /** Whether what the clock alone does in the table (rests that are over) is done. */
  async isSwept(): Promise<boolean> {
    if (!this.#engine) return true;
    const swept = await this.#engine.leases.execute({ kind: 'sweep', itemsMax: 1_000 });
    return swept.ok && swept.value.moved === 0;
  }

  get table(): string {
    return join(this.directory, 'table');
  }

  /** As an agent that starts again; `meanwhile` something is done to the table. */
  async restart(meanwhile: () => void | Promise<void>): Promise<void> {
    this.#isAway = true;
    await this.#pass;
    await this.#host.close();
    this.#broker = undefined;
    await meanwhile();
    this.#isAway = false;
    this.#host.hear();
    this.#bell.ring();
    await this.#running();
  }

  /** As by SIGKILL: what was not on disk is lost, and whoever waits for an answer gets none. */
  async kill(): Promise<void> {
    const killed = `${this.table}.killed`;
    await this.#running();
    this.#life.isKilled = true;
    cpSync(this.table, killed, { recursive: true });
    await this.restart(() => {
      rmSync(this.table, { recursive: true });
      renameSync(killed, this.table);
    });
  }

  /** As when the disk is lost: nothing of the table is there any more, and the host goes on with what it has. */
  async lose(): Promise<void> {
    await this.#running();
    this.#life.isKilled = true;
    await this.restart(() => {
      rmSync(this.table, { recursive: true });
    });
  }

  /** What the server says to an agent that takes the slice for empty. */
  async claimEmpty({ slice, token }: Pick<Lease, 'slice' | 'token'>): Promise<AppliedAnswer['rejected']> {
    const generation = Number(token.split('.')[0]);
    const slices = [{ slice, generation, state: 'empty' as const }];
    return (await this.#client.agent.applied(this.machine, { revision: 0, leases: [], slices })).rejected;
  }

  /** A lease of a session of its own, as soon as there is one to be had. */
  async grantHere(ports: number): Promise<Lease> {
    for (;;) {
      try {
        const { id } = await this.local().sessions.open({ machine: this.machine, holder: 'web', ttl_s: 600 });
        const claims = [{ protocol: 'tcp' as const, ports }];
        const [lease] = (await this.local().leases.grant({ session: id, claims })).leases;
        if (lease?.state === 'active') return lease;
      } catch (error) {
        if (!isFisheryError(error) || !(error.retryable || error.code === 'no_slices')) throw error;
        await sleep(20);
      }
    }
  }

  async #running(): Promise<Broker> {
    while (!this.#broker) await sleep(5);
    return this.#broker;
  }

  /** As an agent that knows nothing any more: from a snapshot on. */
  listenAnew(): void {
    this.#hasSnapshot = false;
    this.#listening.abort();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#listening = new AbortController();
      const both = AbortSignal.any([signal, this.#listening.signal]);
      try {
        for await (const event of follow(this.#client, this.machine, { signal: both, random: () => 0 }))
          this.#hear(event);
      } catch {
        await sleep(20);
      }
    }
  }

  #hear(event: Followed): void {
    switch (event.type) {
      case 'snapshot':
        this.#desired.reset(event.desired);
        this.#slices.forgetTold();
        this.#reports.clear();
        this.#hasSnapshot = true;
        break;
      case 'change':
        this.#desired.apply(event.change);
        break;
      case 'request':
        if (this.link.next('request') === undefined)
          void this.#host
            .carryOut(event.request)
            .then((answer) => this.#client.agent.answer(this.machine, answer))
            .catch(() => {});
        return;
      case 'bookmark':
      case 'query':
        return;
    }
    this.#host.hear();
    this.#bell.ring();
  }

  async #passes(signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      await this.#bell.heard(signal, 50);
      if (isOver(signal) || !this.#hasSnapshot || this.#isAway) continue;
      await (this.#pass = this.#once());
    }
  }

  async #once(): Promise<void> {
    const { revision } = this.#desired;
    await this.#host.lookAfter(this.#desired, () => {});
    const { leases } = this.#host.desired;
    for (const lease of leases.values()) if (lease.state !== 'ending') this.#bring(lease);
    for (const [id, lease] of this.#up) {
      // What is not this machine's any more may be another's: nobody is waited for.
      if (!leases.has(id) && !this.#isOurs(lease)) this.#take(id);
      else if ((leases.get(id)?.state ?? 'ending') === 'ending') this.#takeInTime(id);
    }
    const outcomes = [...leases.values()].flatMap(({ id: lease, token, state }): LeaseOutcome[] => {
      if (state === 'pending') return this.#up.has(lease) ? [{ lease, token, state: 'active' }] : [];
      return state === 'ending' && !this.#up.has(lease) ? [{ lease, token, state: 'empty' }] : [];
    });
    const isHeld = (slice: string) => [...this.#up.values()].some((lease) => lease.slice === slice);
    await this.#host.conclude(outcomes, isHeld);
    const slices = this.#slices.outcomes(this.#desired, () => true, isHeld, this.#host);
    this.#reports.add([], slices, this.#desired.revision);
    this.#applied = revision;
  }

  /** Not before whoever had the ports has let go of them. */
  #bring(lease: Lease): void {
    if (this.#up.has(lease.id) || [...this.#up.values()].some((other) => overlap(lease, other))) return;
    this.#up.set(lease.id, lease);
    this.onUp(lease);
  }

  #isOurs({ slice, token }: Lease): boolean {
    return this.#desired.slices.get(slice)?.generation === Number(token.split('.')[0]);
  }

  #takeInTime(id: string): void {
    const at = this.#goingAt.get(id) ?? performance.now() + this.slownessMs();
    this.#goingAt.set(id, at);
    if (performance.now() >= at) this.#take(id);
  }

  #take(id: string): void {
    this.#goingAt.delete(id);
    const lease = this.#up.get(id);
    this.#up.delete(id);
    if (lease) this.onDown(lease);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await Promise.race([Promise.allSettled(this.#tasks), sleep(2_000)]);
    await this.#host.close();
    if (this.#ownsServer) await this.server[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
