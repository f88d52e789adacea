import type { Socket } from 'node:net';
import { familyOf, parseAddress, type Address } from '../net/address.ts';
import { portCount } from '../net/ports.ts';
import { connect, ConnectError } from '../sdk/connect.ts';
import { ClientCounts } from './client-counts.ts';
import type { RecordedEnding } from '../fish/log/flow-record.ts';
import { ConnectionLog, margin_us, type ConnectionAnswer, type ConnectionQuery } from './connection-log.ts';
import type { BeginningConnection, ConnectionMemory } from './connection-memory.ts';
import {
  Destinations,
  type DestinationFilter,
  type DestinationList,
  type DestinationOrder,
  type Outcome,
} from './destinations.ts';
import {
  busyDestinations,
  listConnections,
  topConnections,
  type BusyDestination,
  type ConnectionFilter,
  type ConnectionList,
  type ConnectionSnapshot,
  type ConnectionTalker,
  type ConnectionTalkerKind,
} from './connection-views.ts';
import { familyOfLease, leasesFor } from './lease-order.ts';
import { choosePath, type ClientConnection } from './paths.ts';
import {
  counterNames,
  type TerminateCounter,
  type TerminateSettings,
  type TerminateStats,
  type TerminateUse,
  type UsableLease,
} from './protocol.ts';
import { Pipes } from './pipes.ts';
import { relay, type RelayedBytes, type RelayEnd } from './relay.ts';
import { destroyLost, reset, resetsAtEnd, watchLeaving } from './sockets.ts';

/** Each costs system calls, and a client waits. */
const leasesTried_max = 8;
/** A peer that vanished is found out so long after its last word, and a few tries later. */
const keepalive_ms = 300_000;

type Open = {
  client: Socket;
  origin: Socket | undefined;
  /** undefined as long as nothing is passed on. */
  bytes: (() => RelayedBytes) | undefined;
  /** Of the last attempt: from where it was made, since it has a port. */
  lease: string | undefined;
  attempt: BeginningConnection | undefined;
  destination: string;
  /** Ends the attempt that is under way, before the next packet of it is sent. */
  givingUp: AbortController;
  /** Why this side ended it; undefined as long as it has not. */
  cut: 'fenced' | 'cut' | undefined;
};

/** What became of trying to reach an origin. */
type Reached = Readonly<
  | { origin: Socket; ended: (ending: RecordedEnding) => void }
  | { outcome: Outcome | 'client_left' | 'ports_exhausted' | 'no_lease' }
>;
const endingOf: Readonly<Record<RelayEnd, RecordedEnding>> = {
  ...{ finished: 'finished', client_resets: 'reset', origin_resets: 'reset', idle: 'idle' },
};

/**
 * Carries on the connections that clients were led to it with, from leased ports. One for each process; what it has open dies
 * with that.
 */
export class Terminator {
  #settings: TerminateSettings;
  #leases: readonly UsableLease[] = [];
  readonly #memory: ConnectionMemory;
  readonly #log: ConnectionLog;
  readonly #destinations: Destinations;
  readonly #clients = new ClientCounts();
  readonly #open = new Set<Open>();
  readonly #counters: Record<TerminateCounter, number>;
  #bytesUp = 0;
  #bytesDown = 0;
  readonly #exhausted = { 4: 0, 6: 0 };
  readonly #port: number;
  readonly #pipes = new Pipes();
  readonly #connect: typeof connect;

  /**
   * `port`: where it listens itself. Whoever connects to that was not led here. `memory`: where its log is; it has room for
   * `connections_max`. `connectFrom`: how an origin is reached.
   */
  constructor(settings: TerminateSettings, port: number, memory: ConnectionMemory, connectFrom = connect) {
    this.#connect = connectFrom;
    this.#settings = settings;
    this.#port = port;
    this.#memory = memory;
    this.#log = new ConnectionLog(memory, margin_us);
    this.#destinations = new Destinations(settings.destinations_max);
    this.#counters = Object.fromEntries(counterNames.map((name) => [name, 0])) as Record<TerminateCounter, number>;
  }

  /** For what begins from now on. */
  configure(settings: TerminateSettings, leases: readonly UsableLease[]): void {
    this.#settings = settings;
    this.#leases = leases;
  }

  /** A connection that the kernel has accepted, with the address that the client meant as its local one; paused. */
  accept(client: Socket): void {
    this.#counters.accepted++;
    const asked = connectionOf(client);
    const refusal = asked === undefined ? 'client_resets' : this.#admit(asked);
    if (asked === undefined || refusal !== undefined) {
      if (refusal !== undefined) this.#counters[refusal]++;
      reset(client);
      return;
    }
    const destination = `${asked.destination} ${asked.port}`;
    const open: Open = {
      client,
      origin: undefined,
      bytes: undefined,
      lease: undefined,
      attempt: undefined,
      destination,
      givingUp: new AbortController(),
      cut: undefined,
    };
    this.#open.add(open);
    client.setKeepAlive(true, keepalive_ms);
    // When this process ends before its origin has answered, that must not look like an answer.
    resetsAtEnd(client, true);
    void this.#carryOn(open, asked).finally(() => {
      this.#open.delete(open);
      this.#clients.give(asked.client);
    });
  }

  /** To be called now and then: so long it was there, if it is killed. */
  alive(): void {
    this.#memory.alive(nowUs());
  }

  /** To be called now and then: resets what the peer of a socket has reset that nobody reads from, as its other side is full. */
  lookForLost(): void {
    destroyLost(this.#sockets());
  }

  *#sockets(): Generator<Socket> {
    for (const { client, origin } of this.#open) {
      yield client;
      if (origin) yield origin;
    }
  }

  search(query: ConnectionQuery, most: number): ConnectionAnswer {
    return this.#log.search(query, nowUs(), most);
  }

  connections(filter: ConnectionFilter, max: number): ConnectionList {
    return listConnections(this.#snapshots(), filter, max);
  }

  talkers(by: ConnectionTalkerKind, max: number): readonly ConnectionTalker[] {
    return topConnections(this.#snapshots(), by, max);
  }

  busiest(max: number): readonly BusyDestination[] {
    const ports = { 4: 0, 6: 0 };
    for (const lease of this.#leases) ports[familyOfLease(lease)] += portCount(lease.ports);
    return busyDestinations(this.#snapshots(), ports, max);
  }

  /** What became of attempts to reach them. */
  destinations(by: DestinationOrder, filter: DestinationFilter, max: number): DestinationList {
    return this.#destinations.list(by, filter, max);
  }

  *#snapshots(): Generator<ConnectionSnapshot> {
    for (const open of this.#open) {
      const { up: bytesOut, down: bytesIn } = bytesOf(open);
      if (open.attempt) yield { ...open.attempt, bytesOut, bytesIn };
    }
  }

  /** Of what has a port, or had one when it was tried last. */
  portUse(): TerminateUse {
    const flows = new Map(this.#leases.map(({ id }) => [id, 0]));
    const busiest = { 4: 0, 6: 0 };
    const toward = new Map<string, number>();
    for (const { lease, destination } of this.#open) {
      if (lease === undefined) continue;
      flows.set(lease, (flows.get(lease) ?? 0) + 1);
      const count = (toward.get(destination) ?? 0) + 1;
      toward.set(destination, count);
      const family = destination.includes(':') ? 6 : 4;
      busiest[family] = Math.max(busiest[family], count);
    }
    return {
      families: ([4, 6] as const).map((family) => ({
        ...{ family, busiest: busiest[family], refused: this.#exhausted[family] },
      })),
      leases: [...flows].map(([lease, count]) => ({ lease, flows: count })),
    };
  }

  stats(destinations: number): TerminateStats {
    const { open, ended } = this.#log.entries;
    const live = [...this.#open];
    const bytes = live.map((each) => bytesOf(each));
    return {
      ...this.#counters,
      open: live.length,
      connecting: live.filter(({ origin }) => origin === undefined).length,
      clients: this.#clients.clients,
      leases: this.#leases.length,
      connections_max: this.#settings.connections_max,
      bytes_up: bytes.reduce((sum, { up }) => sum + up, this.#bytesUp),
      bytes_down: bytes.reduce((sum, { down }) => sum + down, this.#bytesDown),
      logged_open: open,
      logged_ended: ended,
      memory_bytes: process.memoryUsage.rss(),
      pipes_held: this.#pipes.inUse,
      pipes_max: this.#pipes.most,
      total: this.#destinations.total(),
      destinations_known: this.#destinations.size,
      destinations_forgotten: this.#destinations.forgotten,
      destinations: this.#destinations.list('failures', {}, destinations).destinations,
    };
  }

  /** Begins nothing more until it is told of leases again, and ends what there is: how many that were. */
  fence(): number {
    return this.#cutAll('fenced');
  }

  /** The same, as this process ends. */
  end(): void {
    this.#cutAll('cut');
  }

  /** When it returns, no leased port sends anything any more. */
  #cutAll(as: 'fenced' | 'cut'): number {
    this.#leases = [];
    for (const open of this.#open) {
      open.cut = as;
      open.givingUp.abort();
      reset(open.client);
      if (open.origin) reset(open.origin);
    }
    return this.#open.size;
  }

  /** Why this connection may not be; counted in where it may. */
  #admit(asked: ClientConnection): TerminateCounter | undefined {
    const { paths, connections_max, connections_per_client_max } = this.#settings;
    if (isLoopback(asked.destination) && asked.port === this.#port) return 'not_chosen';
    if (choosePath(paths, asked) !== 'terminate') return 'not_chosen';
    if (this.#open.size >= connections_max) return 'over_limit';
    return this.#clients.take(asked.client, connections_per_client_max) ? undefined : 'over_client_limit';
  }

  async #carryOn(open: Open, asked: ClientConnection): Promise<void> {
    const { client } = open;
    // What there is to say of a client that is gone is said by then.
    const ignore = () => {};
    client.on('error', ignore);
    const stopWatching = watchLeaving(client, () => open.givingUp.abort());
    const reached = await this.#reach(open, asked);
    stopWatching();
    if ('outcome' in reached) {
      this.#counters[open.cut ? 'cut' : reached.outcome]++;
      const isSilence = reached.outcome === 'timed_out' || reached.outcome === 'unreachable';
      if (isSilence && this.#settings.on_unreachable === 'close') {
        resetsAtEnd(client, false);
        client.end(() => client.destroy());
      } else reset(client);
      return;
    }
    const { origin, ended } = reached;
    this.#counters.connected++;
    open.origin = origin;
    if (client.destroyed) {
      this.#counters[open.cut ? 'cut' : 'client_resets']++;
      origin.on('error', ignore);
      reset(origin);
      ended(open.cut ?? 'reset');
      return;
    }
    origin.setKeepAlive(true, keepalive_ms);
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const done = (end: RelayEnd) => {
      this.#counters[open.cut ? 'cut' : end]++;
      ended(open.cut ?? endingOf[end]);
      const { up, down } = bytesOf(open);
      this.#bytesUp += up;
      this.#bytesDown += down;
      resolve(undefined);
    };
    open.bytes = relay(client, origin, { limits: this.#settings, pipes: this.#pipes, done });
    await promise;
  }

  /** Tries one lease after the other while the ports of each are all in use toward this destination. */
  async #reach(open: Open, asked: ClientConnection): Promise<Reached> {
    const { signal } = open.givingUp;
    const hasLeft = () => signal.aborted;
    const { destination: host, port } = asked;
    const startedAt = performance.now();
    const leases = leasesFor(asked.client, this.#leases, leasesTried_max);
    if (leases.length === 0) return { outcome: 'no_lease' };
    for (const lease of leases) {
      if (hasLeft()) return { outcome: 'client_left' };
      // It may have been taken back meanwhile.
      if (!this.#leases.some(({ id }) => id === lease.id)) continue;
      open.lease = lease.id;
      const openedAt = nowUs();
      const left_ms = this.#settings.connect_timeout_s * 1_000 - (performance.now() - startedAt);
      const ended: ((at: number, ending: RecordedEnding) => void)[] = [];
      const onAttempt = (localPort: number) => {
        open.attempt = {
          ...{ lease: lease.id, client: asked.client, clientPort: open.client.remotePort ?? 0 },
          ...{ address: addressOf(lease.address), port: localPort, remote: host, remotePort: port, openedAt },
        };
        ended.push(this.#log.open(open.attempt));
      };
      const hasEnded = (ending: RecordedEnding) => {
        open.attempt = undefined;
        for (const end of ended) end(nowUs(), ending);
      };
      try {
        const timeoutMs = Math.max(1, Math.round(left_ms));
        const ways = { allowHalfOpen: true, onAttempt, signal };
        const origin = await this.#connect({ lease, host, port, timeoutMs, ...ways });
        this.#note(asked, 'connected', startedAt);
        return { origin, ended: hasEnded };
      } catch (error) {
        hasEnded('not_connected');
        if (hasLeft()) return { outcome: 'client_left' };
        if (!(error instanceof ConnectError)) throw error;
        if (error.failure === 'ports_exhausted') continue;
        const outcome = outcomeOf(error);
        this.#note(asked, outcome, startedAt, error.message);
        return { outcome };
      }
    }
    this.#exhausted[familyOf(asked.client)]++;
    return { outcome: 'ports_exhausted' };
  }

  #note({ destination, port }: ClientConnection, outcome: Outcome, startedAt: number, problem?: string): void {
    const seconds = (performance.now() - startedAt) / 1_000;
    this.#destinations.note(destination, port, {
      ...{ outcome, seconds, at: Date.now() },
      ...(problem === undefined ? {} : { problem }),
    });
  }
}

const outcomeOf = ({ failure }: ConnectError): Outcome =>
  failure === 'refused' || failure === 'unreachable' ? failure : failure === 'timeout' ? 'timed_out' : 'failed';

/** undefined for one that is gone already. */
function connectionOf(client: Socket): ClientConnection | undefined {
  const { remoteAddress, localAddress, localPort } = client;
  if (remoteAddress === undefined || localAddress === undefined || localPort === undefined) return undefined;
  return { client: addressOf(remoteAddress), destination: addressOf(localAddress), port: localPort };
}

function addressOf(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1';
const bytesOf = ({ client, bytes }: Open): RelayedBytes => bytes?.() ?? { up: client.bytesRead, down: 0 };

const nowUs = (): number => Date.now() * 1_000;
