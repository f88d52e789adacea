import { fc } from '@fast-check/vitest';
import { expect } from 'vitest';
import { defaultTimers } from '../../src/fish/config.ts';
import { block, Pond, shared } from './fish.ts';
import { NaiveFish, type NaiveFlow } from './naive-fish.ts';
import { NaiveFragments } from './naive-fragments.ts';
import { translated } from './naive-nat.ts';
import {
  build,
  checksumProblem,
  echo,
  fragmentOf,
  hexOf,
  identificationOf,
  mayBeCut,
  read,
  renumbered,
  udp,
  type Endpoint,
  type PacketFields,
} from './packets.ts';
import { ScriptedTcp, type TcpMove } from './scripted-tcp.ts';

/*
 * All that fish does to bytes, beside a second implementation that takes packets apart into plain objects, keeps lists, and sums
 * whole packets anew. Verdicts, bytes and what is kept must be the same after every step.
 */
const clients: Endpoint[] = [
  { address: '100.96.0.2', port: 1_000 },
  { address: '100.96.0.2', port: 1_001 },
  { address: '100.96.0.3', port: 1_000 },
];
const remotes: Endpoint[] = [
  { address: '203.0.113.1', port: 443 },
  { address: '203.0.113.1', port: 53 },
  { address: '203.0.113.2', port: 443 },
];
const router = '192.0.2.254';
const nearRouter = '100.64.0.1';
const blocks = [
  block('198.51.100.10', 'tcp', 9_000, 9_003, shared('late')),
  block('198.51.100.11', 'tcp', 9_000, 9_000),
  block('198.51.100.10', 'udp', 9_000, 9_001),
  block('198.51.100.10', 'icmp', 9_004, 9_007),
];

/** IPv4 options, and why a packet with them is dropped. */
const optionKinds: readonly Readonly<{ options: readonly number[]; reason?: string }>[] = [
  { options: [] },
  { options: [1, 1, 1, 0] },
  { options: [7, 7, 4, 0, 0, 0, 0, 0] },
  { options: [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
  { options: [222, 6, 1, 2, 3, 4, 1, 1] },
  { options: [131, 7, 4, 192, 0, 2, 1, 0], reason: 'source_route' },
  { options: [1, 137, 3, 4], reason: 'source_route' },
  { options: [222, 9, 0, 0], reason: 'bad_ip_option' },
  { options: [7, 3, 3, 0], reason: 'bad_ip_option' },
];

/** How a packet is made, beside what it says. */
type Make = {
  options: number;
  mayBeCut: boolean;
  identification: number;
  checksum: 'whole' | 'none' | 'partial';
  /** Of the data. */
  bytes: number;
};
/** Where pieces begin and how long they are, in eighths of the packet: not more than a few hit the same place. */
type Pieces = readonly Readonly<{ from: number; units: number; key: number }>[];
type Who = { client: number; remote: number };
type Steps = ['out' | 'in', TcpMove][];

export type PathCommand =
  | { do: 'send'; protocol: 'udp' | 'icmp'; who: Who; way: 'out' | 'in'; make: Make }
  | {
      do: 'cut';
      protocol: 'udp' | 'icmp';
      who: Who;
      way: 'out' | 'in';
      make: Make;
      every: number;
      more: Pieces;
      keys: number[];
    }
  /** Some of the fragments that are on their way arrive. */
  | { do: 'deliver'; picks: number[] }
  | { do: 'tcp'; who: Who; steps: Steps; make: Make; every: number }
  | { do: 'error'; about: number; bytes: number; type: 3 | 11 | 12; near: boolean; make: Make }
  | { do: 'pass'; seconds: number }
  | { do: 'blocks'; members: typeof blocks }
  | { do: 'restart' };

const who = fc.record({ client: fc.nat({ max: clients.length - 1 }), remote: fc.nat({ max: remotes.length - 1 }) });
const way = fc.constantFrom('out' as const, 'in' as const);
const datagram = fc.constantFrom('udp' as const, 'icmp' as const);
const make: fc.Arbitrary<Make> = fc.record({
  options: fc.oneof(
    { weight: 6, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.nat({ max: optionKinds.length - 1 }) },
  ),
  mayBeCut: fc.boolean(),
  identification: fc.nat({ max: 3 }),
  checksum: fc.constantFrom('whole', 'whole', 'none', 'partial'),
  bytes: fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 3_000 })),
});
const steps: fc.Arbitrary<Steps> = fc.oneof(
  fc.constantFrom<Steps>(
    [
      ['out', 'begin'],
      ['in', 'answer'],
      ['out', 'acknowledge'],
    ],
    [
      ['out', 'data'],
      ['in', 'data'],
      ['out', 'acknowledge'],
    ],
    [
      ['out', 'finish'],
      ['in', 'finish'],
      ['out', 'acknowledge'],
    ],
    [['in', 'reset']],
  ),
  fc
    .tuple(way, fc.constantFrom<TcpMove>('begin', 'answer', 'data', 'acknowledge', 'finish', 'reset'))
    .map((step) => [step]),
);

export const pathCommand: fc.Arbitrary<PathCommand> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), protocol: datagram, who, way, make }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('cut' as const),
      protocol: datagram,
      who,
      way,
      make,
      every: fc.integer({ min: 1, max: 120 }),
      more: fc.oneof(
        { weight: 3, arbitrary: fc.constant([]) },
        {
          weight: 1,
          arbitrary: fc.array(
            fc.record({ from: fc.nat({ max: 90 }), units: fc.integer({ min: 1, max: 90 }), key: fc.nat() }),
            { maxLength: 2 },
          ),
        },
      ),
      keys: fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      picks: fc.array(fc.nat(), { minLength: 1, maxLength: 30 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('tcp' as const), who, steps, make, every: fc.integer({ min: 5, max: 60 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('error' as const),
      about: fc.nat(),
      bytes: fc.nat({ max: 600 }),
      type: fc.constantFrom(3 as const, 11 as const, 12 as const),
      near: fc.boolean(),
      make,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('pass' as const), seconds: fc.constantFrom(1, 10, 29, 30, 61, 301) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('blocks' as const), members: fc.subarray(blocks, { minLength: 2 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
);

/** A piece of a packet that is on its way. `fields`: of the whole. */
type Piece = Readonly<{ bytes: Uint8Array; whole: Uint8Array; fields: PacketFields; pair: string }>;
type Turned = Readonly<{ side: 'source' | 'destination'; to: Endpoint }>;
/** A whole packet as somebody has got it, for an error about it. */
type Delivered = Readonly<{ bytes: Uint8Array; side: Turned['side'] }>;

const vnetHeader_bytes = 10;
const noHeader = new Uint8Array(vnetHeader_bytes);
const delivered_max = 50;

export class PathWorld {
  readonly pond: Pond;
  readonly #flows = new NaiveFish(defaultTimers, '100.96.');
  readonly #fragments = new NaiveFragments();
  readonly #connections = new Map<string, ScriptedTcp>();
  /** Where each pair was last seen coming from. */
  readonly #seenFrom = new Map<string, Endpoint>();
  readonly #onTheirWay: Piece[] = [];
  readonly #delivered: Delivered[] = [];
  readonly #numbers = new Map<string, Set<number>>();
  #drops = new Map<string, number>();

  constructor(seed: number) {
    this.pond = new Pond(blocks, { seed, icmpErrorsPerSMax: 0, clientShare: 1, vnetHeaderBytes: vnetHeader_bytes });
    this.#flows.setBlocks(blocks);
  }

  get #nowS(): number {
    return this.pond.nowMs / 1_000;
  }

  carryOut(command: PathCommand): void {
    if (command.do === 'send') {
      const made = this.#datagram(command);
      if (made) this.#send(made.fields, made.pair, command.make);
    } else if (command.do === 'cut') {
      this.#cut(command);
    } else if (command.do === 'deliver') {
      for (const pick of command.picks) {
        const at = pick % Math.max(1, this.#onTheirWay.length);
        for (const piece of this.#onTheirWay.splice(at, 1)) this.#sendPiece(piece);
      }
    } else if (command.do === 'tcp') {
      for (const [direction, what] of command.steps) this.#tcp(command, direction, what);
    } else if (command.do === 'error') {
      this.#sendError(command);
    } else if (command.do === 'pass') {
      this.#pass(command.seconds);
    } else if (command.do === 'restart') {
      this.pond.restart();
      this.#fragments.clear();
      this.#numbers.clear();
      this.#drops = new Map();
    } else {
      if (this.#flows.blocks.some((each) => !command.members.includes(each))) this.#fragments.forgetTranslated();
      this.pond.forwarder.setBlocks(command.members, this.pond.nowMs);
      this.#flows.setBlocks(command.members);
    }
  }

  /** What is counted and kept is the same on both sides. */
  compare(): void {
    const { fragmentedPackets, fragmentsHeld } = this.pond.forwarder.counters();
    expect({ fragmentedPackets, fragmentsHeld }).toEqual({
      fragmentedPackets: this.#fragments.packets,
      fragmentsHeld: this.#fragments.held,
    });
    const drops = new Map(this.#drops);
    for (const reason of this.#fragments.dropped) drops.set(reason, (drops.get(reason) ?? 0) + 1);
    expect(this.pond.drops()).toEqual(Object.fromEntries(drops));
    const known = [...this.pond.forwarder.flows()].map(
      (flow) => `${flow.protocol} ${flow.client}:${flow.clientPort} ${flow.address}:${flow.port} ${flow.state}`,
    );
    expect(known.toSorted()).toEqual(this.#flows.flows.map(described).toSorted());
  }

  /** Long enough for everything to end. */
  end(): void {
    this.#pass(10_000);
    this.#pass(200);
    const { fragmentedPackets, fragmentsHeld, flowsLive, flowsResting, placeholdersHeld } =
      this.pond.forwarder.counters();
    expect([fragmentedPackets, fragmentsHeld, flowsLive, flowsResting, placeholdersHeld]).toEqual([0, 0, 0, 0, 0]);
  }

  /** Fish may find what is due up to half a second late, so no look is taken in the very second of a deadline. */
  #pass(seconds: number): void {
    let lengthS = seconds;
    while (this.#flows.flows.some((flow) => flow.deadlineS === this.#nowS + lengthS)) lengthS++;
    this.pond.pass(lengthS);
    this.#flows.expire(this.#nowS);
    this.#fragments.expire(this.#nowS);
  }

  #datagram(command: Extract<PathCommand, { do: 'send' | 'cut' }>): { fields: PacketFields; pair: string } | undefined {
    const [client, remote] = [clients[command.who.client]!, remotes[command.who.remote]!];
    const { protocol } = command;
    const pair = `${protocol} ${client.address}:${client.port} ${protocol === 'udp' ? '' : remote.address}`;
    const leased = this.#seenFrom.get(pair);
    if (command.way === 'in' && leased === undefined) return undefined;
    if (protocol === 'udp') return { fields: command.way === 'out' ? udp(client, remote) : udp(remote, leased!), pair };
    const isOut = command.way === 'out';
    const request = isOut
      ? echo(client.address, remote.address, client.port)
      : echo(remote.address, leased!.address, leased!.port, 0);
    return { fields: request, pair };
  }

  #tcp(
    { who: { client, remote }, make: how, every }: Extract<PathCommand, { do: 'tcp' }>,
    direction: 'out' | 'in',
    what: TcpMove,
  ): void {
    const [from, to] = [clients[client]!, remotes[remote]!];
    const pair = `tcp ${from.address}:${from.port} ${to.address}:${to.port}`;
    const connection = this.#connections.get(pair) ?? new ScriptedTcp(from, to);
    this.#connections.set(pair, connection);
    const leased = this.#seenFrom.get(pair);
    if (direction === 'in' && leased === undefined) return;
    // What the model could not tell: see the other world.
    const flow = leased && this.#flows.connectionFrom(leased, to);
    const isOwn = flow?.client.address === from.address && flow.client.port === from.port;
    if (what === 'begin' ? isOwn && flow.state === 'live' : direction === 'in' && flow && !isOwn) return;
    const fields = direction === 'out' ? connection.fromClient(what) : connection.fromRemote(what, leased!);
    if (!fields) return;
    // A script loses nothing, so no packet of it may be dropped for its options.
    const kept = { ...how, options: how.options % 5, bytes: fields.data?.length ?? 0 };
    if (kept.bytes < 32) this.#send(fields, pair, kept);
    else this.#sendInPieces(made(fields, { ...kept, checksum: 'whole', mayBeCut: true }), pair, every);
  }

  /** All of them at once, the last first: a script loses nothing. */
  #sendInPieces(fields: PacketFields, pair: string, every: number): void {
    const whole = build(fields);
    const bytes = Math.max(40, every * 8);
    const total = whole.length - headerBytesOf(whole);
    for (let from = Math.floor((total - 1) / bytes) * bytes; from >= 0; from -= bytes)
      this.#sendPiece({ bytes: fragmentOf(whole, from, bytes), whole, fields, pair });
  }

  #cut(command: Extract<PathCommand, { do: 'cut' }>): void {
    const datagram = this.#datagram(command);
    if (!datagram) return;
    const { pair } = datagram;
    const fields = made(datagram.fields, {
      ...command.make,
      mayBeCut: true,
      checksum: command.make.checksum === 'none' ? 'none' : 'whole',
    });
    const whole = build(fields);
    const total = whole.length - headerBytesOf(whole);
    const every = command.every * 8;
    const regular = Array.from({ length: Math.ceil(total / every) }, (_, i) => ({
      from: i * every,
      bytes: every,
      key: command.keys[i % 8]!,
    }));
    const more = command.more.map(({ from, units, key }) => ({ from: from * 8, bytes: units * 8, key }));
    // What is not cut at all is not a fragment.
    const pieces = [...regular, ...more].filter(({ from, bytes }) => from < total && !(from === 0 && bytes >= total));
    const shuffled = pieces.toSorted((a, b) => a.key - b.key);
    this.#onTheirWay.push(
      ...shuffled.map(({ from, bytes }) => ({ bytes: fragmentOf(whole, from, bytes), whole, fields, pair })),
    );
  }

  #sendPiece({ bytes, whole, fields, pair }: Piece): void {
    const reason = optionsReason(bytes);
    const direction = this.#directionOf(fields);
    const taken =
      reason === undefined
        ? this.#fragments.take(bytes, direction, this.#nowS)
        : ({ verdict: 'dropped', reason } as const);
    if (taken.verdict === 'first') {
      const turned = this.#exchange(bytes, noHeader, fields, pair, (turned, number) =>
        fragmentOf(renumbered(translatedAs(whole, turned, false), number), 0, bytes.length - headerBytesOf(bytes)),
      );
      if (!turned) this.#fragments.refuse(bytes, direction);
      else {
        const way = { side: turned.side, address: turned.to.address };
        const behind = this.#fragments.admit(bytes, direction, way, turned.number);
        expect(this.pond.behind.map(hexOf)).toEqual(behind.map(hexOf));
      }
      return;
    }
    const sent = this.pond.send(bytes, noHeader);
    expect(this.pond.behind).toEqual([]);
    if (taken.verdict === 'follows') {
      expect(sent.verdict).toBe('forward');
      expect(hexOf(sent.bytes)).toBe(hexOf(taken.bytes));
    } else {
      expect(sent.verdict).toBe(taken.verdict === 'held' ? 'held' : taken.reason);
      expect(hexOf(sent.bytes)).toBe(hexOf(bytes));
      if (taken.verdict === 'dropped') this.#dropped(taken.reason);
    }
  }

  #send(plain: PacketFields, pair: string, how: Make): void {
    const fields = made(plain, how);
    const isPartial = how.checksum === 'partial' && fields.protocol !== 'icmp';
    const bytes = build(fields, isPartial);
    const header = isPartial ? partialHeader(bytes, fields, how.bytes) : noHeader;
    const reason = optionsReason(bytes);
    if (reason !== undefined) {
      const sent = this.pond.send(bytes, header);
      expect([sent.verdict, hexOf(sent.bytes)]).toEqual([reason, hexOf(bytes)]);
      this.#dropped(reason);
      return;
    }
    const turned = this.#exchange(bytes, header, fields, pair, (turned, number) => {
      const after = translatedAs(bytes, turned, isPartial);
      return mayBeCut(after) ? renumbered(after, number) : after;
    });
    if (turned && !isPartial) this.#deliver({ bytes: turned.bytes, side: turned.side });
  }

  /** Sends a packet, or a first fragment, and holds what comes of it against the model; how it was translated, if it was. */
  #exchange(
    bytes: Uint8Array,
    header: Uint8Array,
    fields: PacketFields,
    pair: string,
    expected: (turned: Turned, number: number) => Uint8Array,
  ): (Turned & { number: number; bytes: Uint8Array }) | undefined {
    const verdict = this.#flows.handle(fields, this.#nowS);
    const sent = this.pond.send(bytes, header);
    if ('drop' in verdict) {
      expect([sent.verdict, hexOf(sent.bytes)]).toEqual([verdict.drop, hexOf(bytes)]);
      this.#dropped(verdict.drop);
      return undefined;
    }
    expect(sent.verdict).toBe('forward');
    let turned: Turned;
    if ('side' in verdict) turned = verdict;
    else {
      const { source, sourcePort } = read(sent.bytes);
      turned = { side: 'source', to: { address: source, port: sourcePort } };
      expect(verdict.choices).toContainEqual(turned.to);
      this.#flows.took(turned.to);
    }
    if (turned.side === 'source') this.#seenFrom.set(pair, turned.to);
    const number = identificationOf(sent.bytes);
    expect(hexOf(sent.bytes)).toBe(hexOf(expected(turned, number)));
    if (mayBeCut(sent.bytes)) this.#checkNumber(sent.bytes, number, header);
    return { ...turned, number, bytes: sent.bytes };
  }

  /** Nobody between these two has had this number before. */
  #checkNumber(bytes: Uint8Array, number: number, header: Uint8Array): void {
    const key = `${bytes[9]} ${bytes.subarray(12, 20).join('.')}`;
    const numbers = this.#numbers.get(key) ?? new Set();
    this.#numbers.set(key, numbers);
    const size = (header[4] ?? 0) | ((header[5] ?? 0) << 8);
    const segments = header[1] === 0 ? 1 : Math.ceil((bytes.length - headerBytesOf(bytes)) / size);
    for (let i = 0; i < segments; i++) {
      const each = (number + i) & 0xffff;
      expect(numbers.has(each)).toBe(false);
      numbers.add(each);
    }
  }

  #deliver(delivered: Delivered): void {
    expect(checksumProblem(delivered.bytes)).toBeUndefined();
    this.#delivered.push(delivered);
    if (this.#delivered.length > delivered_max) this.#delivered.shift();
  }

  /** An error about something that somebody got; it quotes so much of it. */
  #sendError({ about, bytes, type, near, make: how }: Extract<PathCommand, { do: 'error' }>): void {
    const got = this.#delivered[about % Math.max(1, this.#delivered.length)];
    if (!got) return;
    const seen = read(got.bytes);
    // Half of a TCP checksum, its 17th byte, cannot be moved without the other half, and means nothing to anybody.
    const transport = bytes === 9 && seen.protocol === 6 ? 16 : 8 + bytes;
    const length = Math.min(got.bytes.length, headerBytesOf(got.bytes) + transport);
    const name = ({ 1: 'icmp', 6: 'tcp', 17: 'udp' } as const)[seen.protocol as 1 | 6 | 17];
    const isSent = got.side === 'source';
    const own = isSent
      ? { address: seen.source, port: seen.sourcePort }
      : { address: seen.destination, port: seen.destinationPort };
    const other = isSent
      ? { address: seen.destination, port: seen.destinationPort }
      : { address: seen.source, port: seen.sourcePort };
    const source = isSent ? router : near ? nearRouter : own.address;
    const destination = isSent ? own.address : other.address;
    const error = (quoted: Uint8Array, from: string, to: string) =>
      build({
        ...{ protocol: 'icmp', type, code: 0, identifier: 0, sequence: type === 3 ? 1_280 : 0 },
        ...{ source: from, destination: to, data: quoted.slice(0, length) },
        ...{
          options: optionKinds[how.options % 5]!.options,
          fragment: how.mayBeCut ? 0 : 0x4000,
          identification: how.identification,
        },
      });
    const packet = error(got.bytes, source, destination);
    const sent = this.pond.send(packet, noHeader);
    const flow = this.#flows.flows.find(
      (each) =>
        each.protocol === name &&
        each.remote === remoteKey(name, other) &&
        (isSent ? same(each.leased, own) : same(each.client, own) && !each.superseded),
    );
    const isLeased = this.#flows.blocks.some((each) => each.address === destination);
    // The address that it came to may be leased no more; then it is a stranger's, on its way out.
    const verdict =
      isSent && !isLeased ? 'source_not_allowed' : !flow ? 'no_flow' : flow.state === 'resting' ? 'resting' : 'forward';
    expect(sent.verdict).toBe(verdict);
    if (!flow || verdict !== 'forward') {
      this.#dropped(verdict);
      expect(hexOf(sent.bytes)).toBe(hexOf(packet));
      return;
    }
    const quoted = translatedAs(got.bytes, { side: got.side, to: isSent ? flow.client : flow.leased }, false);
    const expected = isSent
      ? error(quoted, source, flow.client.address)
      : error(quoted, flow.leased.address, destination);
    expect(hexOf(sent.bytes)).toBe(hexOf(how.mayBeCut ? renumbered(expected, identificationOf(sent.bytes)) : expected));
    if (how.mayBeCut) this.#checkNumber(sent.bytes, identificationOf(sent.bytes), noHeader);
  }

  #directionOf(fields: PacketFields): string {
    return this.#flows.blocks.some((each) => each.address === fields.destination) ? 'in' : 'out';
  }

  #dropped(reason: string): void {
    this.#drops.set(reason, (this.#drops.get(reason) ?? 0) + 1);
  }
}

const same = (a: Endpoint, b: Endpoint) => a.address === b.address && a.port === b.port;
const remoteKey = (protocol: 'icmp' | 'tcp' | 'udp', { address, port }: Endpoint) =>
  protocol === 'udp' ? 'any' : protocol === 'icmp' ? address : `${address}:${port}`;
const described = ({ protocol, client, leased, state }: NaiveFlow) =>
  `${protocol} ${client.address}:${client.port} ${leased.address}:${leased.port} ${state}`;
const headerBytesOf = (bytes: Uint8Array) => ((bytes[0] ?? 0) & 15) * 4;
const translatedAs = (bytes: Uint8Array, { side, to }: Turned, partial: boolean) =>
  translated(bytes, side, to, partial);

/** The packet with all that `how` says about it. */
function made(fields: PacketFields, how: Make): PacketFields {
  const { options } = optionKinds[how.options]!;
  const common = { options, fragment: how.mayBeCut ? 0 : 0x4000, identification: how.identification };
  const data = Uint8Array.from({ length: how.bytes }, (_, i) => (i * 31 + how.identification) & 255);
  if (fields.protocol === 'tcp') return { ...fields, ...common };
  if (fields.protocol === 'icmp') return { ...fields, ...common, data };
  return { ...fields, ...common, data, withoutChecksum: how.checksum === 'none' };
}

/** The virtio header of a packet whose checksum is left to others, and which is cut into segments if it is long. */
function partialHeader(bytes: Uint8Array, fields: PacketFields, dataBytes: number): Uint8Array {
  const header = new Uint8Array(vnetHeader_bytes);
  const start = headerBytesOf(bytes);
  header.set([1, 0, 0, 0, 0, 0, start, 0, fields.protocol === 'tcp' ? 16 : 6, 0]);
  // GSO_TCPV4, or GSO_UDP_L4; segments of 512 bytes.
  if (dataBytes > 600) header.set([fields.protocol === 'tcp' ? 1 : 5, 0, 0, 0, 2], 1);
  return header;
}

function optionsReason(bytes: Uint8Array): string | undefined {
  const options = [...bytes.subarray(20, headerBytesOf(bytes))].join();
  return optionKinds.find((kind) => kind.options.join() === options)?.reason;
}
