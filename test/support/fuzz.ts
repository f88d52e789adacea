import type { Address } from '../../src/net/address.ts';
import { dropReasons } from '../../src/fish/verdicts.ts';
import { block, client, client6, origin, origin6, Pond, seeded, shared } from './fish.ts';
import { fragmentOf, headBytesOf, mayBeCut, pieceOf, resummed } from './cut-packets.ts';
import { leftIn, roomIn } from './fish-room.ts';
import { withLowerMss } from './naive-mss.ts';
import { build, echo, hexOf, onesComplementSum, read, tcp, udp, type PacketFields } from './packets.ts';
import { isIPv6Packet, transportOf6, type Extension } from './packets6.ts';

/*
 * Packets that nobody would send, in numbers: valid ones, answers to what fish let through, errors about it and pieces of all of
 * these, with bits flipped, fields set, ends cut off. Whatever comes, fish has to answer, keep its bounds, and change nothing but
 * what a translation changes; and when all is over, nothing may be left.
 */
export type FuzzReport = Readonly<{
  packets: number;
  forwarded: number;
  held: number;
  /** Forwarded, and with every checksum right, summed over all of it. */
  right: number;
  /** Forwarded, and with a lower maximum segment size than they had. */
  lowered: number;
  /** What was forwarded, by what it is: every kind of ICMP error by its direction, family, type and code. */
  kinds: Readonly<Record<string, number>>;
  drops: Readonly<Record<string, number>>;
}>;

const leased = ['198.51.100.10', '198.51.100.11'] as const;
const leased6 = '2001:db8:d::10';
const blocks = [
  block(leased[0], 'tcp', 8_192, 8_255, shared('late')),
  block(leased[1], 'tcp', 8_192, 8_223),
  block(leased[0], 'udp', 8_192, 8_255),
  block(leased[1], 'udp', 8_256, 8_287),
  block(leased[0], 'icmp', 8_192, 8_223),
  block(leased6, 'tcp', 8_192, 8_223, shared('late')),
  block(leased6, 'udp', 8_192, 8_223),
  block(leased6, 'icmp', 8_192, 8_223),
];
const data = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => (i * 37) & 255);
const hopByHop: Extension = { type: 0, body: [5, 2, 0, 0] };
const forDestination: Extension = { type: 60, body: [1, 12] };
const second = { address: '100.96.7.9', port: 5_000 };
const corpus: readonly PacketFields[] = [
  tcp(client, origin, 'S', { tcpOptions: [2, 4, 5, 180, 1, 3, 3, 7] }),
  tcp(second, origin, 'S', { tcpOptions: [1, 2, 4, 5, 180, 0, 0, 0], data: data(20), fragment: 0 }),
  tcp(client, origin, 'A', { sequence: 1, acknowledgement: 1, data: data(64) }),
  tcp(client, origin, 'AF', { sequence: 1, acknowledgement: 1 }),
  tcp(client, origin, 'R', { sequence: 1 }),
  tcp(client, { ...origin, port: 80 }, 'S', { options: [7, 7, 4, 0, 0, 0, 0, 0] }),
  udp(client, origin, { data: data(80) }),
  udp(second, origin, { data: data(33), fragment: 0, options: [1, 1, 1, 0] }),
  udp(second, { ...origin, port: 53 }, { withoutChecksum: true, fragment: 0, data: data(200) }),
  udp(client, { address: '192.0.2.77', port: 53 }, { data: data(400), fragment: 0, identification: 5 }),
  echo(client.address, origin.address, 7),
  { ...echo(second.address, origin.address, 9), fragment: 0, data: data(300) },
  tcp(client6, origin6, 'S', { tcpOptions: [4, 2, 1, 2, 4, 255, 255, 1], data: data(9) }),
  tcp(client6, origin6, 'A', { sequence: 1, acknowledgement: 1, data: data(300) }),
  udp(client6, origin6, { data: data(90), extensions: [hopByHop, forDestination] }),
  udp(client6, { ...origin6, port: 53 }, { data: data(400) }),
  udp(client6, { ...origin6, port: 54 }, { data: data(2_900) }),
  udp(second, { ...origin, port: 54 }, { data: data(2_900), fragment: 0 }),
  { ...echo(client6.address, origin6.address, 9), data: data(200), extensions: [forDestination] },
  // From outside, to whoever is there.
  udp(origin6, { address: leased6, port: 8_200 }, { data: data(50) }),
  tcp(origin6, { address: leased6, port: 8_200 }, 'SA', { acknowledgement: 1, tcpOptions: [2, 4, 5, 180] }),
  udp(origin, { address: leased[0], port: 8_200 }, { data: data(50) }),
  tcp(origin, { address: leased[0], port: 8_200 }, 'SA', { acknowledgement: 1 }),
  tcp(origin, { address: leased[0], port: 8_200 }, 'S'),
  tcp(origin6, { address: leased6, port: 8_200 }, 'S'),
  echo(origin.address, leased[0], 8_200, 0),
  // From one client to a leased address.
  udp(client, { address: leased[0], port: 8_200 }),
];

/** Types with how many codes each has: RFC 792, 1122, 1812; RFC 4443, 8883. The last ones mean nothing beyond a link, or to nobody any more. */
const errors4 = [
  [3, 16],
  [11, 2],
  [12, 3],
  [4, 1],
  [5, 4],
] as const;
const errors6 = [
  [1, 8],
  [2, 1],
  [3, 2],
  [4, 4],
  [100, 1],
  [137, 1],
] as const;
/** Whoever may say something about a packet that is not his: routers outside, and between clients and fish. */
const routers = ['192.0.2.33', '10.1.1.1', '100.64.0.9'];
const routers6 = ['2001:db8:0:7::1', '2001:db8:77::1', '2001:db8:c:ffff::1'];

const vnetHeader_bytes = 10;
const recent_max = 256;
const mssMax = { 4: 1_380, 6: 1_213 } as const;
const values = [0, 1, 4, 5, 6, 8, 15, 16, 17, 20, 0x2f, 0x3f, 0x40, 0x45, 0x46, 0x4f, 0x7f, 0x80, 0x83, 0xff];

/**
 * Sends `packets` of them, the same ones for the same seed. Throws at the first that is not treated as it has to be. The last two bits
 * of the seed say how TCP is mapped and how UDP is filtered.
 */
export function fuzz(seed: number, packets: number): FuzzReport {
  const run = new Fuzz(seed);
  for (let packet = 0; packet < packets; packet++) {
    try {
      run.step();
    } catch (error) {
      throw new Error(`seed ${seed}, packet ${packet}: ${run.last}`, { cause: error });
    }
  }
  return run.end();
}

class Fuzz {
  readonly #random: () => number;
  readonly #pond: Pond;
  /** As they were when fish let them through. */
  readonly #recent: Uint8Array[] = [];
  readonly #drops = new Map<string, number>();
  readonly #kinds = new Map<string, number>();
  readonly #settings: ConstructorParameters<typeof Pond>[1];
  #blocks = blocks;
  #sent = 0;
  #forwarded = 0;
  #held = 0;
  #right = 0;
  #lowered = 0;
  /** What fish has counted that is gone by now. */
  #countedBefore = 0;
  last = '';

  constructor(seed: number) {
    this.#random = seeded(seed);
    this.#settings = {
      seed,
      vnetHeaderBytes: vnetHeader_bytes,
      flowsMax: 256,
      udpPeersMax: 256,
      placeholdersMax: 48,
      tcpMapping: (seed & 1) !== 0 ? 'endpoint_independent' : 'address_and_port_dependent',
      udpFiltering: (seed & 2) !== 0 ? 'address_dependent' : 'endpoint_independent',
      fragmentedPacketsMax: 64,
      fragmentBytesMax: 1_048_576,
      ipv6AddressesMax: 64,
      icmpSource: '100.96.0.1' as Address,
      icmpSource6: '2001:db8:c::1' as Address,
      icmpErrorsPerSMax: 1_000,
      mssMax: mssMax[4],
      mssMax6: mssMax[6],
    };
    this.#pond = new Pond(blocks, this.#settings);
  }

  step(): void {
    if (this.#chance(400)) this.#pond.pass(this.#below(this.#chance(4) ? 400 : 20));
    if (this.#chance(3_000)) this.#changeBlocks();
    if (this.#chance(20_000)) this.#restart();
    const header = this.#header();
    this.#send(this.#packet(), header);
  }

  end(): FuzzReport {
    this.#account();
    for (const seconds of [60, 8_000, 300, 300]) this.#pond.pass(seconds);
    const left = leftIn(this.#pond);
    check(left.length === 0, `left over: ${left.join()}`);
    this.#account();
    // Whatever is lost without being counted cannot be had any more.
    this.#pond.forwarder.setBlocks(blocks, this.#pond.nowMs);
    const [now, once] = [this.#pond, new Pond(blocks, this.#settings)].map((pond) => JSON.stringify(roomIn(pond)));
    check(now === once, `there is room for ${now}, and was for ${once}`);
    const [drops, kinds] = [Object.fromEntries(this.#drops), Object.fromEntries(this.#kinds)];
    const [packets, forwarded, held] = [this.#sent, this.#forwarded, this.#held];
    return { packets, forwarded, held, right: this.#right, lowered: this.#lowered, kinds, drops };
  }

  /** Every packet is either forwarded, dropped for one reason, or waits. */
  #account(): void {
    const { packetsIn, packetsOut, drops, fragmentsHeld } = this.#pond.forwarder.counters();
    const dropped = Object.values(drops).reduce((sum, count) => sum + count, 0);
    const counted = this.#countedBefore + packetsIn + packetsOut + dropped + fragmentsHeld;
    check(counted === this.#sent, `${counted} packets are counted, ${this.#sent} were sent`);
  }

  #changeBlocks(): void {
    this.#blocks = blocks.filter(() => !this.#chance(4));
    this.#pond.forwarder.setBlocks(this.#blocks, this.#pond.nowMs);
  }

  #restart(): void {
    this.#account();
    this.#countedBefore = this.#sent;
    this.#pond.restart();
  }

  #header(): Uint8Array {
    const header = new Uint8Array(vnetHeader_bytes);
    if (this.#chance(20)) for (let i = 0; i < 3; i++) header[this.#below(vnetHeader_bytes)] = this.#value();
    return header;
  }

  #packet(): Uint8Array {
    let packet = this.#chance(2) ? this.#fresh() : this.#answer();
    if (this.#chance(5) && packet.length > 40) packet = this.#piece(packet);
    const mutations = this.#chance(3) || packet.length > 3_000 ? 0 : 1 + this.#below(4);
    for (let i = 0; i < mutations; i++) packet = this.#mutated(packet);
    // Most of what a damaged header hides is only seen behind a sum that is right.
    return packet.length >= 20 && mutations > 0 && !this.#chance(4) ? resummed(packet) : packet;
  }

  #fresh(): Uint8Array {
    return build(this.#one(corpus));
  }

  /** To what fish let through lately: an answer, an error about it, or the same once more. */
  #answer(): Uint8Array {
    const recent = this.#recent[this.#below(Math.max(1, this.#recent.length))];
    if (!recent) return this.#fresh();
    if (this.#chance(4)) return recent;
    if (this.#chance(6)) return this.#toAnother(recent);
    return this.#chance(3) ? this.#errorAbout(recent) : reversed(recent);
  }

  /** From its receiver, or from a router on the way; with an MTU, a pointer or nothing where only some have one. */
  #errorAbout(packet: Uint8Array): Uint8Array {
    const in6 = isIPv6Packet(packet);
    const { source, destination } = read(packet);
    const [type, codes] = this.#one<readonly [number, number]>(in6 ? errors6 : errors4);
    const data = packet.slice(0, this.#chance(4) ? packet.length : (in6 ? 48 : 28) + this.#below(120));
    const from = this.#chance(2) ? destination : this.#one(in6 ? routers6 : routers);
    const rest = { identifier: this.#chance(3) ? this.#below(65_536) : 0, sequence: this.#one([0, 576, 1_280, 1_500]) };
    const code = this.#below(codes);
    return build({ protocol: 'icmp', type, code, ...rest, source: from, destination: source, data, fragment: 0 });
  }

  /** From another client to where this one was seen coming from. */
  #toAnother(recent: Uint8Array): Uint8Array {
    const { protocol, source, sourcePort } = read(recent);
    const to = { address: source, port: sourcePort };
    const from = isIPv6Packet(recent) ? { ...client6, address: '2001:db8:c:7::9' } : { ...second, port: 6_000 };
    if (protocol === 6) return build(tcp(from, to, this.#chance(3) ? 'A' : 'S', { data: data(this.#below(90)) }));
    if (protocol === 17) return build(udp(from, to, { data: data(this.#below(400)), fragment: 0 }));
    return build({ ...echo(from.address, to.address, to.port), data: data(this.#below(300)), fragment: 0 });
  }

  #piece(packet: Uint8Array): Uint8Array {
    const total = packet.length - headBytesOf(packet);
    if (headBytesOf(packet) < 20 || total < 16) return packet;
    const from = this.#chance(3) ? 0 : this.#below(Math.floor(total / 8)) * 8;
    const bytes = 8 * (1 + this.#below(Math.ceil((total - from) / 8)));
    return from === 0 && bytes >= total ? packet : fragmentOf(packet, from, bytes, this.#below(4));
  }

  #mutated(packet: Uint8Array): Uint8Array {
    const bytes = Uint8Array.from(packet);
    const at = this.#below(Math.max(1, bytes.length));
    switch (this.#below(9)) {
      case 0:
        bytes[at]! ^= 1 << this.#below(8);
        return bytes;
      case 1:
        bytes[at] = this.#value();
        return bytes;
      case 2:
        // Headers matter more than data.
        bytes[this.#below(Math.min(28, bytes.length))] = this.#value();
        return bytes;
      case 3:
        return bytes.slice(0, at);
      case 4:
        return Uint8Array.from([...bytes, ...bytes.subarray(0, this.#below(60))]);
      case 5:
        // The length that it claims.
        return withWord(bytes, 2, this.#chance(2) ? this.#value() : this.#below(65_536));
      case 6:
        return withWord(bytes, 6, this.#chance(2) ? this.#value() : this.#below(65_536));
      case 7:
        return isIPv6Packet(bytes) ? this.#withExtension(bytes) : this.#withOptions(bytes);
      default:
        bytes.copyWithin(at, this.#below(bytes.length + 1), this.#below(bytes.length + 1));
        return bytes;
    }
  }

  #withOptions(bytes: Uint8Array): Uint8Array {
    if (bytes.length < 20) return bytes;
    const options = Array.from({ length: 4 * (1 + this.#below(10)) }, () => this.#value());
    const made = Uint8Array.from([...bytes.subarray(0, 20), ...options, ...bytes.subarray(headBytesOf(bytes))]);
    made[0] = 0x45 + options.length / 4;
    return withWord(made, 2, made.length);
  }

  #withExtension(bytes: Uint8Array): Uint8Array {
    if (bytes.length < 40) return bytes;
    const units = 1 + this.#below(3);
    const body = Array.from({ length: units * 8 - 2 }, () => (this.#chance(2) ? 0 : this.#value()));
    const extension = [bytes[6]!, this.#chance(8) ? this.#value() : units - 1, ...body];
    const made = Uint8Array.from([...bytes.subarray(0, 40), ...extension, ...bytes.subarray(40)]);
    made[6] = this.#one([0, 43, 44, 60, 60, 51, 59]);
    return withWord(made, 4, made.length - 40);
  }

  #send(packet: Uint8Array, header: Uint8Array): void {
    this.last = `${hexOf(header)} ${hexOf(packet)}`;
    this.#sent++;
    const { verdict, bytes } = this.#pond.send(packet, header);
    if (verdict === 'forward') {
      this.#forwarded++;
      this.#judge(packet, bytes, header);
      for (const behind of this.#pond.behind) {
        this.#forwarded++;
        check(isHeaderRight(behind), 'the header of what left behind it is wrong');
      }
    } else {
      check(isSame(packet, bytes), `${verdict}, and changed`);
      check(this.#pond.behind.length === 0, 'something left behind what did not leave');
      if (verdict === 'held') this.#held++;
      else {
        check((dropReasons as readonly string[]).includes(verdict), `no such verdict: ${verdict}`);
        this.#drops.set(verdict, (this.#drops.get(verdict) ?? 0) + 1);
      }
    }
    const reply = this.#pond.reply();
    if (reply) check(isHeaderRight(reply) && residueOf(reply) === 0, 'its own answer is summed wrong');
  }

  #judge(before: Uint8Array, after: Uint8Array, header: Uint8Array): void {
    check(isHeaderRight(after), 'the header checksum is wrong');
    check(this.#isOwn(after), 'it leaves with an address that is nobody’s');
    this.#countKind(before, after);
    const isPartial = (header[0]! & 1) !== 0;
    if (!isPartial) check(residueOf(before) === residueOf(after), 'the transport checksum is mended or broken');
    if (!isPartial && residueOf(after) === 0) this.#right++;
    const changed = changesOf(before, after);
    const isIPv6 = isIPv6Packet(after);
    const { at, protocol } = transportOf(after);
    const isFirst = isFirstPiece(after);
    const isError = isFirst && (protocol === 1 ? ![0, 8].includes(after[at]!) : protocol === 58 && after[at]! < 128);
    const [addressesAt, addressesEnd] = isIPv6 ? [8, 40] : [12, 20];
    const identifiedAt = isIPv6 ? headBytesOf(after) + 4 : 4;
    const hopsAt = isIPv6 ? 7 : 8;
    check(after[hopsAt] === Math.min(255, before[hopsAt]! + 1), 'it has not one hop more');
    const lowered = isFirst ? withLowerMss(before, mssMax[isIPv6 ? 6 : 4]) : before;
    const loweredAt = changesOf(before, lowered);
    check(
      loweredAt.every((i) => after[i] === lowered[i]),
      'the maximum segment size is not what it has to be',
    );
    if (loweredAt.length > 0) this.#lowered++;
    // Hops, addresses, identification and header checksum; ports or identifier, and the checksum behind them.
    const mayChange = (i: number) =>
      i === hopsAt ||
      (i >= addressesAt && i < addressesEnd) ||
      (mayBeCut(after) && i >= identifiedAt && i < identifiedAt + (isIPv6 ? 4 : 2)) ||
      (!isIPv6 && (i === 10 || i === 11)) ||
      (isFirst && i >= at && (isError || i < at + 18)) ||
      loweredAt.includes(i);
    check(changed.every(mayChange), `it is changed at ${changed.filter((i) => !mayChange(i)).join()}`);
    this.#recent[this.#chance(4) ? this.#below(recent_max) : this.#forwarded % recent_max] = after;
  }

  #countKind(before: Uint8Array, after: Uint8Array): void {
    const { source, destination } = read(before);
    const isInward = clientsAre.test(read(after).destination);
    const way = !isInward ? 'out' : clientsAre.test(source) && !clientsAre.test(destination) ? 'between clients' : 'in';
    const { at, protocol } = transportOf(before);
    const isError =
      isFirstPiece(before) && (protocol === 1 ? ![0, 8].includes(before[at]!) : protocol === 58 && before[at]! < 128);
    const name = isError ? `error of IPv${before[0]! >> 4} ${before[at]}/${before[at + 1]}` : 'other';
    const whole = isPiece(before) ? 'fragment' : 'packet';
    for (const kind of [`${way} ${name}`, `${way} ${whole}`]) this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
  }

  /** Out with a leased source, or in to a client. */
  #isOwn(after: Uint8Array): boolean {
    const { source, destination } = read(after);
    return this.#blocks.some(({ address }) => address === source) || clientsAre.test(destination);
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }

  #value(): number {
    return this.#chance(2) ? this.#one(values) : this.#below(256);
  }

  #chance(of: number): boolean {
    return this.#below(of) === 0;
  }

  #below(count: number): number {
    return this.#random() % count;
  }
}

function check(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

function withWord(bytes: Uint8Array, at: number, value: number): Uint8Array {
  if (bytes.length >= at + 2) bytes.set([value >>> 8, value & 255], at);
  return bytes;
}

/** 100.64.0.0/10 and 2001:db8:c::/48. */
const clientsAre = /^(100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|2001:db8:c:)/;
const wordAt = (bytes: Uint8Array, at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
const isSame = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
/** IPv6 sums no header. */
const isHeaderRight = (bytes: Uint8Array) =>
  isIPv6Packet(bytes) || onesComplementSum(bytes.subarray(0, headBytesOf(bytes))) === 0xffff;
const transportOf = (bytes: Uint8Array) =>
  isIPv6Packet(bytes) ? transportOf6(bytes) : { at: headBytesOf(bytes), protocol: bytes[9] ?? 0 };
const isPiece = (bytes: Uint8Array) => (isIPv6Packet(bytes) ? mayBeCut(bytes) : (wordAt(bytes, 6) & 0x3fff) !== 0);
/** Or the only one: whether its transport header is there. */
function isFirstPiece(bytes: Uint8Array): boolean {
  if (!isIPv6Packet(bytes)) return (wordAt(bytes, 6) & 0x1fff) === 0;
  return !mayBeCut(bytes) || pieceOf(bytes).offset === 0;
}

function changesOf(before: Uint8Array, after: Uint8Array): number[] {
  const changed: number[] = [];
  for (let i = 0; i < before.length; i++) if (before[i] !== after[i]) changed.push(i);
  return changed;
}

/**
 * By how much the transport checksum of a packet, or of a first fragment with what it has of the data, is wrong: 0 when it is right,
 * or when there is none. All of it is summed, with the pseudo-header where there is one.
 */
function residueOf(bytes: Uint8Array): number {
  if (!isFirstPiece(bytes)) return 0;
  const { at, protocol } = transportOf(bytes);
  const isIPv6 = isIPv6Packet(bytes);
  const transport = bytes.subarray(at, isIPv6 ? 40 + wordAt(bytes, 4) : wordAt(bytes, 2));
  if (protocol === 17 && wordAt(transport, 6) === 0) return 0;
  const covered = protocol === 17 ? transport.subarray(0, wordAt(transport, 4)) : transport;
  const addresses = isIPv6 ? bytes.subarray(8, 40) : bytes.subarray(12, 20);
  const ends = protocol === 1 ? 0 : onesComplementSum(addresses) + protocol + covered.length;
  return (ends + onesComplementSum(covered)) % 0xffff;
}

/** The packet on its way back: addresses and ports the other way round, an echo request as its reply. */
function reversed(packet: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(packet);
  const [from, to, end] = isIPv6Packet(packet) ? [8, 24, 40] : [12, 16, 20];
  bytes.set(packet.subarray(from, to), to);
  bytes.set(packet.subarray(to, end), from);
  if (!isFirstPiece(packet)) return bytes;
  const { at, protocol } = transportOf(packet);
  const isRequest = (protocol === 1 && bytes[at] === 8) || (protocol === 58 && bytes[at] === 128);
  if (isRequest) {
    const reply = protocol === 1 ? 0 : 129;
    // The sum grows by what the type has lost.
    const sum = (wordAt(bytes, at + 2) + (bytes[at]! << 8) - (reply << 8) + 0xffff) % 0xffff;
    bytes[at] = reply;
    return withWord(bytes, at + 2, sum);
  }
  if (protocol !== 1 && protocol !== 58 && bytes.length >= at + 4) {
    bytes.set(packet.subarray(at, at + 2), at + 2);
    bytes.set(packet.subarray(at + 2, at + 4), at);
  }
  return bytes;
}
