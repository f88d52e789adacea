import { expect } from 'vitest';
import type { LeasedBlock } from '../../src/fish/ports/blocks.ts';
import { defaultTimers } from '../../src/fish/config.ts';
import { over6 } from './over6.ts';
import { fragmentOf, headBytesOf, identificationOf, mayBeCut, pieceOf, renumbered } from './cut-packets.ts';
import { Pond } from './fish.ts';
import { NaiveFish, type NaiveFlow, type NaiveTcp } from './naive-fish.ts';
import { NaiveFragments } from './naive-fragments.ts';
import { withLowerMss } from './naive-mss.ts';
import { oneHopBack, translated, translatedOnly } from './naive-nat.ts';
import { build, checksumProblem, echo, hexOf, read, udp, type Endpoint, type PacketFields } from './packets.ts';
import { isIPv6Packet } from './packets6.ts';
import {
  blocks,
  blocks6,
  clients,
  goodKinds,
  headerBytesOf,
  made,
  mssMax,
  nearRouter,
  optionKinds,
  partialHeader,
  remotes,
  router,
  vnetHeader_bytes,
  type Make,
  type PathCommand,
} from './path-scene.ts';
import { ScriptedTcp, type TcpMove } from './scripted-tcp.ts';

/*
 * All that fish does to bytes, beside a second implementation that takes packets apart into plain objects, keeps lists, and sums
 * whole packets anew. Verdicts, bytes and what is kept must be the same after every step.
 */
/** A piece of a packet that is on its way. `fields`: of the whole. */
type Piece = Readonly<{
  bytes: Uint8Array;
  whole: Uint8Array;
  fields: PacketFields;
  pair: string;
  reason?: string | undefined;
}>;
type Turned = Readonly<{ side: 'source' | 'destination'; to: Endpoint }>;
/** A whole packet as somebody has got it, for an error about it. */
type Delivered = Readonly<{ bytes: Uint8Array; side: Turned['side'] }>;

const noHeader = new Uint8Array(vnetHeader_bytes);
const delivered_max = 50;

export class PathWorld {
  readonly pond: Pond;
  readonly #family: 4 | 6;
  readonly #flows: NaiveFish;
  readonly #fragments = new NaiveFragments();
  readonly #connections = new Map<string, ScriptedTcp>();
  /** Where each pair was last seen coming from. */
  readonly #seenFrom = new Map<string, Endpoint>();
  readonly #onTheirWay: Piece[] = [];
  readonly #delivered: Delivered[] = [];
  readonly #numbers = new Map<string, Set<number>>();
  #drops = new Map<string, number>();

  constructor(seed: number, family: 4 | 6, tcp: NaiveTcp) {
    this.#family = family;
    this.#flows = new NaiveFish(defaultTimers, family === 4 ? '100.96.' : '2001:db8:c::', tcp);
    this.pond = new Pond(this.#in(blocks), {
      seed,
      ...tcp,
      icmpErrorsPerSMax: 0,
      clientShare: 1,
      mssMax: mssMax[4],
      mssMax6: mssMax[6],
      vnetHeaderBytes: vnetHeader_bytes,
    });
    this.#flows.setBlocks(this.#in(blocks));
  }

  /** In the family of this world; the same block is the same object. */
  #in(members: readonly LeasedBlock[]): readonly LeasedBlock[] {
    return this.#family === 4 ? members : members.map((each) => blocks6[blocks.indexOf(each)]!);
  }

  #at<E extends { address: string }>(endpoint: E): E {
    return this.#family === 4 ? endpoint : { ...endpoint, address: over6(endpoint.address) };
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
      this.#flows.forgetResets(this.#nowS);
      this.#fragments.clear();
      this.#numbers.clear();
      this.#drops = new Map();
    } else {
      const members = this.#in(command.members);
      if (this.#flows.blocks.some((each) => !members.includes(each))) this.#fragments.forgetTranslated();
      this.pond.forwarder.setBlocks(members, this.pond.nowMs);
      this.#flows.setBlocks(members);
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
    const isDue = (flow: NaiveFlow) => [flow.deadlineS, flow.yieldsS].includes(this.#nowS + lengthS);
    while (this.#flows.flows.some(isDue)) lengthS++;
    this.pond.pass(lengthS);
    this.#flows.expire(this.#nowS);
    this.#fragments.expire(this.#nowS);
  }

  #datagram(command: Extract<PathCommand, { do: 'send' | 'cut' }>): { fields: PacketFields; pair: string } | undefined {
    const [client, remote] = [this.#at(clients[command.who.client]!), this.#at(remotes[command.who.remote]!)];
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
    const [from, to] = [this.#at(clients[client]!), this.#at(remotes[remote]!)];
    const pair = `tcp ${from.address}:${from.port} ${to.address}:${to.port}`;
    const connection = this.#connections.get(pair) ?? new ScriptedTcp(from, to);
    this.#connections.set(pair, connection);
    const calls = direction === 'in' && what === 'begin';
    const leased = this.#seenFrom.get(calls ? `tcp ${from.address}:${from.port}` : pair);
    if (direction === 'in' && leased === undefined) return;
    const owner = calls ? this.#flows.mappingAt(leased!, to, this.#nowS) : undefined;
    if (calls && this.#flows.isConnected(from, to)) return;
    if (owner && !same(owner.client, from)) return;
    // What the model could not tell: see the other world.
    const flow = leased && this.#flows.connectionFrom(leased, to);
    const isOwn = flow?.client.address === from.address && flow.client.port === from.port;
    if (what === 'begin' ? isOwn && flow.state === 'live' : direction === 'in' && flow && !isOwn) return;
    const fields = direction === 'out' ? connection.fromClient(what) : connection.fromRemote(what, leased!);
    if (!fields) return;
    if (calls) this.#seenFrom.set(pair, leased!);
    // A script loses nothing, so no packet of it may be dropped for its options.
    const kept = { ...how, options: how.options % goodKinds, bytes: fields.data?.length ?? 0 };
    if (kept.bytes < 32) this.#send(fields, pair, kept);
    else this.#sendInPieces(made(fields, { ...kept, checksum: 'whole', mayBeCut: true }), pair, every);
    const seen = this.#seenFrom.get(pair);
    if (direction === 'out' && seen) this.#seenFrom.set(`tcp ${from.address}:${from.port}`, seen);
  }

  /** All of them at once, the last first: a script loses nothing. */
  #sendInPieces(fields: PacketFields, pair: string, every: number): void {
    const whole = build(fields);
    const bytes = Math.max(40, every * 8);
    const total = whole.length - headBytesOf(whole);
    for (let from = Math.floor((total - 1) / bytes) * bytes; from >= 0; from -= bytes)
      this.#sendPiece({ bytes: fragmentOf(whole, from, bytes), whole, fields, pair });
  }

  #cut(command: Extract<PathCommand, { do: 'cut' }>): void {
    const datagram = this.#datagram(command);
    if (!datagram) return;
    const { pair } = datagram;
    const checksum = command.make.checksum === 'none' ? 'none' : 'whole';
    // The last kind is wrong in what is cut, so that only the first fragment shows it.
    const options = Math.min(command.make.options, optionKinds.length - 2);
    const how: Make = { ...command.make, mayBeCut: true, checksum, options };
    const fields = made(datagram.fields, how);
    const reason = this.#reasonOf(how);
    const whole = build(fields);
    const total = whole.length - headBytesOf(whole);
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
      ...shuffled.map(({ from, bytes }) => ({
        bytes: fragmentOf(whole, from, bytes, how.identification),
        ...{ whole, fields, pair, reason },
      })),
    );
  }

  #sendPiece({ bytes, whole, fields, pair, ...piece }: Piece): void {
    const { offset, bytes: length } = pieceOf(bytes);
    const isShort = offset === 0 && length < headerBytesOf(whole) - headBytesOf(whole) + 8;
    const reason = piece.reason ?? (isShort ? 'fragment_too_small' : undefined);
    const direction = this.#directionOf(fields);
    const taken =
      reason === undefined
        ? this.#fragments.take(bytes, direction, this.#nowS)
        : ({ verdict: 'dropped', reason } as const);
    if (taken.verdict === 'first') {
      const turned = this.#exchange(bytes, noHeader, fields, pair, (turned, number) =>
        fragmentOf(renumbered(translatedAs(whole, turned, false), number), 0, length, number),
      );
      if (!turned) this.#fragments.refuse(bytes, direction);
      else {
        const way = { side: turned.side, address: turned.to.address };
        const behind = this.#fragments.admit(bytes, direction, way, turned.number);
        expect(this.pond.behind.map(hexOf)).toEqual(behind.map((each) => hexOf(oneHopBack(each))));
      }
      return;
    }
    const sent = this.pond.send(bytes, noHeader);
    expect(this.pond.behind).toEqual([]);
    if (taken.verdict === 'follows') {
      expect(sent.verdict).toBe('forward');
      expect(hexOf(sent.bytes)).toBe(hexOf(oneHopBack(taken.bytes)));
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
    const reason = this.#reasonOf(how);
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
    const isIPv6 = isIPv6Packet(bytes);
    const key = isIPv6 ? hexOf(bytes.subarray(8, 40)) : `${bytes[9]} ${hexOf(bytes.subarray(12, 20))}`;
    const numbers = this.#numbers.get(key) ?? new Set();
    this.#numbers.set(key, numbers);
    const size = (header[4] ?? 0) | ((header[5] ?? 0) << 8);
    const segments = header[1] === 0 ? 1 : Math.ceil((bytes.length - headBytesOf(bytes)) / size);
    for (let i = 0; i < segments; i++) {
      const each = isIPv6 ? number : (number + i) & 0xffff;
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
    const name = ({ 1: 'icmp', 58: 'icmp', 6: 'tcp', 17: 'udp' } as const)[seen.protocol as 1 | 6 | 17 | 58];
    const isSent = got.side === 'source';
    const own = isSent
      ? { address: seen.source, port: seen.sourcePort }
      : { address: seen.destination, port: seen.destinationPort };
    const other = isSent
      ? { address: seen.destination, port: seen.destinationPort }
      : { address: seen.source, port: seen.sourcePort };
    const far = this.#at({ address: isSent ? router : nearRouter }).address;
    const source = isSent || near ? far : own.address;
    const destination = isSent ? own.address : other.address;
    const error = (quoted: Uint8Array, from: string, to: string) =>
      build({
        ...{ protocol: 'icmp', code: 0, identifier: 0, sequence: type === 3 ? 1_280 : 0 },
        // Too big, time exceeded and parameter problem are other numbers of ICMPv6.
        type: this.#family === 4 ? type : ({ 3: 2, 11: 3, 12: 4 } as const)[type],
        ...{ source: from, destination: to, data: quoted.slice(0, length) },
        ...{
          options: optionKinds[how.options % goodKinds]!.options,
          extensions: optionKinds[how.options % goodKinds]!.extensions,
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
    // The address that it came to may be leased no more; then it is on its way out, about nothing that a client was sent.
    const isAboutFlow = flow !== undefined && (isLeased || !isSent);
    const verdict = !isAboutFlow ? 'no_flow' : flow.state === 'resting' ? 'resting' : 'forward';
    expect(sent.verdict).toBe(verdict);
    if (!flow || verdict !== 'forward') {
      this.#dropped(verdict);
      expect(hexOf(sent.bytes)).toBe(hexOf(packet));
      return;
    }
    const quoted = translatedOnly(got.bytes, got.side, isSent ? flow.client : flow.leased);
    const expected = oneHopBack(
      isSent ? error(quoted, source, flow.client.address) : error(quoted, flow.leased.address, destination),
    );
    expect(hexOf(sent.bytes)).toBe(
      hexOf(mayBeCut(expected) ? renumbered(expected, identificationOf(sent.bytes)) : expected),
    );
    if (mayBeCut(expected)) this.#checkNumber(sent.bytes, identificationOf(sent.bytes), noHeader);
  }

  #reasonOf({ options }: Make): string | undefined {
    return this.#family === 4 ? optionKinds[options]!.reason : optionKinds[options]!.reason6;
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
const translatedAs = (bytes: Uint8Array, { side, to }: Turned, partial: boolean) =>
  translated(withLowerMss(bytes, mssMax[isIPv6Packet(bytes) ? 6 : 4]), side, to, partial);
