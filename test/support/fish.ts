import type { Address } from '../../src/net/address.ts';
import { ipv4FromNumber } from '../../src/net/address.ts';
import { address6Text } from './packets6.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { AddressBook } from '../../src/fish/packet/address-book.ts';
import type { LeasedBlock } from '../../src/fish/ports/blocks.ts';
import { defaultTimers, fishConfig, type FishConfig, type FlowTimers } from '../../src/fish/config.ts';
import { FlowLog } from '../../src/fish/log/flow-log.ts';
import { FlowMemory, type MemoryColumns } from '../../src/fish/flows/flow-memory.ts';
import type { Traffic } from '../../src/fish/flows/flow-traffic.ts';
import type { FlowSnapshot } from '../../src/fish/log/flow-views.ts';
import { Forwarder, memorySizes } from '../../src/fish/forwarder.ts';
import type { Placeholders } from '../../src/fish/ports/placeholders.ts';
import { verdictName } from '../../src/fish/verdicts.ts';
import { build, read, tcp, type Endpoint, type PacketFields } from './packets.ts';

/** Ten o'clock on some day: the wall time of the fish's clock at 0. */
export const wallStartMs = 1_767_261_600_000;

/** A 32-bit generator for tests (Mulberry32): the same numbers for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/**
 * The kernel as far as placeholders are concerned: a 5-tuple is held once. It insists on what fish has to keep to: nothing
 * is opened twice, nothing closed that is not open.
 */
export class TupleKernel implements Placeholders {
  readonly held = new Map<number, string>();
  readonly opened: string[] = [];
  /** Tuples that sockets of others have. */
  readonly strangers = new Set<string>();
  /** When set, the errno that answers everything. */
  failure = 0;
  disbelieved = 0;
  #next = 3;
  /** What the present fish has opened or taken over. */
  readonly #mine = new Set<number>();

  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number {
    return this.#open(`${ipv4FromNumber(address)}:${port} ${ipv4FromNumber(remote)}:${remotePort}`, binding);
  }

  open6(
    address: Uint8Array,
    port: number,
    remote: Uint8Array,
    remotePort: number,
    binding: 'late' | 'explicit',
  ): number {
    return this.#open(`${address6Text(address)}:${port} ${address6Text(remote)}:${remotePort}`, binding);
  }

  #open(tuple: string, binding: 'late' | 'explicit'): number {
    if (this.failure !== 0) return -this.failure;
    if (this.strangers.has(tuple)) return binding === 'late' ? -99 : -98;
    for (const [handle, held] of this.held) {
      if (held !== tuple) continue;
      if (this.#mine.has(handle)) throw new Error(`${tuple} is opened twice`);
      // A former fish's, which this one has not taken over: the kernel knows no difference.
      return binding === 'late' ? -99 : -98;
    }
    this.held.set(this.#next, tuple);
    this.opened.push(tuple);
    this.#mine.add(this.#next);
    return this.#next++;
  }

  close(handle: number): void {
    if (!this.held.delete(handle)) throw new Error(`handle ${handle} is not open`);
    this.#mine.delete(handle);
  }

  /** Fish is no more; what it held is held. */
  outlive(): void {
    this.#mine.clear();
  }

  adopt(handle: number, address: number, port: number, remote: number, remotePort: number): boolean {
    return this.#adopt(handle, `${ipv4FromNumber(address)}:${port} ${ipv4FromNumber(remote)}:${remotePort}`);
  }

  adopt6(handle: number, address: Uint8Array, port: number, remote: Uint8Array, remotePort: number): boolean {
    return this.#adopt(handle, `${address6Text(address)}:${port} ${address6Text(remote)}:${remotePort}`);
  }

  #adopt(handle: number, tuple: string): boolean {
    if (this.held.get(handle) !== tuple || this.#mine.has(handle)) return false;
    this.#mine.add(handle);
    return true;
  }

  settle(): number {
    const leftOver = [...this.held.keys()].filter((handle) => !this.#mine.has(handle));
    for (const handle of leftOver) this.held.delete(handle);
    return leftOver.length;
  }
}

export const block = (
  address: string,
  protocol: LeasedBlock['protocol'],
  first: number,
  last: number,
  more: Partial<LeasedBlock> = {},
): LeasedBlock => ({
  lease: `${protocol}-${first}`,
  address: address as Address,
  protocol,
  ports: { first, last },
  mode: 'exclusive',
  binding: null,
  ...more,
});
export const shared = (binding: 'late' | 'explicit' = 'late'): Partial<LeasedBlock> => ({ mode: 'shared', binding });

type PondSettings = Partial<Omit<FishConfig, 'timers'>> &
  Readonly<{
    timers?: Partial<FlowTimers>;
    seed?: number;
    marginUs?: number;
    /** `storesLeft` counts: every store is watched, which is slow. */
    mortal?: boolean;
  }>;

/** What a process throws, in these tests, in the middle of a store: it is not there any more. */
export class Killed extends Error {}

/** The columns, for a process that is killed instead of carrying out a store when `mayStore` says no. */
function mortal<Columns extends object>(columns: Columns, mayStore: () => boolean): Columns {
  const guarded = (column: object): object =>
    new Proxy(column, {
      set(target, key, value) {
        if (!mayStore()) throw new Killed();
        return Reflect.set(target, key, value, target);
      },
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  return Object.fromEntries(
    Object.entries(columns).map(([name, column]) => [name, guarded(column as object)]),
  ) as Columns;
}

/** A forwarder with all that it needs, a clock to turn, and packets given and taken as plain values. */
export class Pond {
  readonly kernel = new TupleKernel();
  memory: FlowMemory;
  forwarder: Forwarder;
  readonly #settings: PondSettings;
  readonly #buffer = new Uint8Array(70_000);
  #vnetHeaderBytes = 0;
  nowMs = 0;
  /** What left behind the last packet, because it had waited for it. */
  behind: Uint8Array[] = [];
  /** Stores into the memory that are left until the process is killed. */
  storesLeft = Infinity;

  constructor(blocks: readonly LeasedBlock[], settings: PondSettings = {}) {
    this.#settings = settings;
    const { config } = this.#configure({});
    this.memory = FlowMemory.local(memorySizes(config));
    this.forwarder = this.#start({});
    const { refused } = this.forwarder.setBlocks(blocks, 0);
    if (refused[0]) throw new Error(refused[0].reason);
  }

  /** The process was killed, and another one (with these settings, if they are others) takes the memory over. */
  restart(settings: PondSettings = {}, adopt?: (forwarder: Forwarder) => void): void {
    this.kernel.outlive();
    this.forwarder = this.#start(settings, adopt);
  }

  /** As `restart`, with a memory of another size, into which `copy` carries the flows. */
  moveTo<T>(settings: PondSettings, copy: (from: FlowMemory, to: FlowMemory) => T): T {
    const larger = FlowMemory.local(memorySizes(this.#configure(settings).config));
    const copied = copy(this.memory, larger);
    this.memory = larger;
    this.restart(settings);
    return copied;
  }

  /** The flows without what has passed through them, which is counted anew by every process. */
  flowsAlone(): Omit<FlowSnapshot, keyof Traffic>[] {
    return [...this.forwarder.flows()].map(
      ({ packetsOut: _out, bytesOut: _outBytes, packetsIn: _in, bytesIn: _inBytes, ...flow }) => flow,
    );
  }

  /** Addresses by their numbers, as they are in the memory. */
  get book(): AddressBook {
    return new AddressBook(this.memory.columns.addresses.words, () => 0);
  }

  /** The memory as a process that is killed when `storesLeft` runs out sees it. */
  #mortalMemory(): FlowMemory {
    const mayStore = () => this.storesLeft-- > 0;
    const { flows, tcp, peers, blocks, addresses } = this.memory.columns;
    const columns: MemoryColumns = {
      flows: mortal(flows, mayStore),
      tcp: mortal(tcp, mayStore),
      peers: mortal(peers, mayStore),
      blocks: mortal(blocks, mayStore),
      addresses: mortal(addresses, mayStore),
    };
    return this.memory.through(columns);
  }

  #configure(more: PondSettings): { config: FishConfig; seed: number; marginUs: number; mortal: boolean } {
    const all = { ...this.#settings, ...more };
    const { timers, seed = 1, marginUs = 0, mortal: isMortal = false, ...settings } = all;
    const config = fishConfig({
      clientPrefixes: ['100.64.0.0/10', '2001:db8:c::/48'] as Prefix[],
      vnetHeaderBytes: 0,
      flowsMax: 1_024,
      udpPeersMax: 1_024,
      ipv6AddressesMax: 1_024,
      fragmentedPacketsMax: 256,
      fragmentBytesMax: 1_048_576,
      flowLogMax: 1_024,
      // Properties begin thousands of ponds, and their tables would be most of what that takes.
      clientsMax: 1_024,
      ...settings,
      timers: { ...defaultTimers, ...timers },
    });
    if (!config.ok) throw new Error(config.error);
    return { config: config.value, seed, marginUs, mortal: isMortal };
  }

  #start(more: PondSettings, adopt?: (forwarder: Forwarder) => void): Forwarder {
    const { config, seed, marginUs, mortal: isMortal } = this.#configure(more);
    this.#vnetHeaderBytes = config.vnetHeaderBytes;
    const log = new FlowLog({ entriesMax: config.flowLogMax, since: this.at(this.nowMs / 1_000), marginUs });
    const memory = isMortal ? this.#mortalMemory() : this.memory;
    const forwarder = new Forwarder({ config, memory, random: seeded(seed), placeholders: this.kernel, log });
    forwarder.setWallOffset(wallStartMs);
    adopt?.(forwarder);
    while (forwarder.adopt(this.nowMs, 100) === 100);
    return forwarder;
  }

  /** Hands over a packet (with `header`, the virtio header in front of it): its bytes afterwards, and the verdict by name. */
  send(
    packet: PacketFields | Uint8Array,
    header: Uint8Array = new Uint8Array(this.#vnetHeaderBytes),
  ): { verdict: string; bytes: Uint8Array } {
    const bytes = packet instanceof Uint8Array ? packet : build(packet);
    this.#buffer.set(header);
    this.#buffer.set(bytes, header.length);
    const verdict = verdictName(this.forwarder.handle(this.#buffer, header.length + bytes.length, this.nowMs));
    const after = this.#buffer.slice(header.length, header.length + bytes.length);
    this.behind = [];
    for (;;) {
      const length = this.forwarder.next(this.#buffer);
      if (length === 0) break;
      this.behind.push(this.#buffer.slice(header.length, length));
    }
    return { verdict, bytes: after };
  }

  /** The ICMP error that the last packet brought about, if any. */
  reply(): Uint8Array | undefined {
    const { reply, replyLength } = this.forwarder;
    return replyLength === 0 ? undefined : reply.slice(this.#vnetHeaderBytes, replyLength);
  }

  /** The next answer that has become due without a packet. */
  due(): Uint8Array | undefined {
    const bytes = this.forwarder.due(this.nowMs);
    return bytes === 0 ? undefined : this.forwarder.reply.slice(this.#vnetHeaderBytes, bytes);
  }

  /** Lets time pass, and what is due end. */
  pass(seconds: number): void {
    this.nowMs += seconds * 1_000;
    while (this.forwarder.expire(this.nowMs, 16) === 16);
  }

  drops(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.forwarder.counters().drops).filter(([, count]) => count > 0));
  }

  /** An instant in the flow log's terms: so many seconds after the start. */
  at(seconds: number): number {
    return (wallStartMs + seconds * 1_000) * 1_000;
  }
}

export const client: Endpoint = { address: '100.96.0.2', port: 40_000 };
export const origin: Endpoint = { address: '203.0.113.1', port: 443 };
export const client6: Endpoint = { address: '2001:db8:c::2', port: 40_000 };
export const origin6: Endpoint = { address: '2001:db8:0:1::1', port: 443 };

type Sent = Readonly<{ verdict: string; bytes: Uint8Array }>;
function forwarded({ verdict, bytes }: Sent): ReturnType<typeof read> {
  if (verdict !== 'forward') throw new Error(`the packet was not forwarded: ${verdict}`);
  return read(bytes);
}
/** Where a packet that was forwarded comes from, as the remote sees it. */
export const outside = (sent: Sent): Endpoint => {
  const { source, sourcePort } = forwarded(sent);
  return { address: source, port: sourcePort };
};
/** Where it goes, as the client sees it. */
export const inside = (sent: Sent): Endpoint => {
  const { destination, destinationPort } = forwarded(sent);
  return { address: destination, port: destinationPort };
};

const isSame = (a: Endpoint, b: Endpoint): boolean => a.address === b.address && a.port === b.port;

/** A connection from the first SYN to the first ACK; what the remote sees it come from. */
export function connect(pond: Pond, from: Endpoint, to: Endpoint): Endpoint {
  const leased = outside(pond.send(tcp(from, to, 'S', { sequence: 100 })));
  const answered = inside(pond.send(tcp(to, leased, 'SA', { sequence: 500, acknowledgement: 101 })));
  const acknowledged = outside(pond.send(tcp(from, to, 'A', { sequence: 101, acknowledgement: 501 })));
  if (!isSame(answered, from) || !isSame(acknowledged, leased)) throw new Error('not one connection, but several');
  return leased;
}
/** Its end, as it should be: the client closes first. */
export function finish(pond: Pond, from: Endpoint, to: Endpoint, leased: Endpoint): void {
  outside(pond.send(tcp(from, to, 'FA', { sequence: 101, acknowledgement: 501 })));
  inside(pond.send(tcp(to, leased, 'FA', { sequence: 501, acknowledgement: 102 })));
  outside(pond.send(tcp(from, to, 'A', { sequence: 102, acknowledgement: 502 })));
}
