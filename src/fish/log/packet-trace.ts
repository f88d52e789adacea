import { addressToBytes, type Address } from '../../net/address.ts';
import { protocolNumber, type Protocol } from '../../net/protocol.ts';
import { FORWARD, HELD } from '../verdicts.ts';
import { PacketEnds } from './packet-ends.ts';

/**
 * Which packets to look at: those of a flow with all of these ends, before its translation or after it; the ICMP errors about it,
 * and all fragments of its packets.
 */
export type TraceFilter = Readonly<{
  protocol?: Protocol;
  /** Either end: a client, a leased address or a remote. */
  addresses: readonly Address[];
  /** Either end; of an echo its identifier. */
  ports: readonly number[];
}>;

export type TraceRequest = Readonly<{
  filter: TraceFilter;
  packets_max: number;
  /** So much is kept of all packets together. */
  bytes_max: number;
  /** So much of each packet is kept. */
  snapBytes: number;
  forMs: number;
}>;

/** What became of one packet. `kind`: it came from the TUN, waited for a first fragment and leaves, or is fish's own. */
export type TracedPacket = Readonly<{
  kind: 'packet' | 'released' | 'reply';
  /** Milliseconds on fish's clock. */
  atMs: number;
  verdict: number;
  /** Of the whole packet. */
  bytes: number;
  before: Uint8Array | null;
  /** null where it goes no further. */
  after: Uint8Array | null;
}>;

/** Which bound ended it. */
export type TraceEnd = 'packets' | 'bytes' | 'time';

/** Whoever has not come by then is gone. */
const patience_ms = 5_000;
/** Packets whose first fragment was one of those that are looked for, so that the others of theirs are known. */
const cutPackets_max = 256;
/** Fragments that wait for their first, and so for whether they are looked for: so many are kept. */
const waiting_max = 64;
const snapBytes_min = 64;
/** As long as a packet can be: all of it may be headers. */
const headBytes_max = 65_575;

type Waiting = Readonly<{ cutPacket: string; packet: TracedPacket }>;

/**
 * Writes down what happens to some packets, as long as somebody wants to know: so many at most, and so many bytes of them. What is
 * not looked for costs two looks at its headers and a copy of them, however long it is; so it is not there when nobody asks.
 */
export class PacketTrace {
  readonly #request: TraceRequest;
  readonly #until: number;
  readonly #headerBytes: number;
  readonly #addresses: readonly Uint8Array[];
  readonly #found: TracedPacket[] = [];
  readonly #before = new PacketEnds();
  readonly #after = new PacketEnds();
  /** The headers of the last packet as they were. */
  readonly #head = new Uint8Array(headBytes_max);
  readonly #headView = new DataView(this.#head.buffer);
  #headLength = 0;
  #isPacket = false;
  /** Bytes of packets that are kept. */
  #kept = 0;
  /** Whether the last packet that fish read is one of those. */
  #isWanted = false;
  readonly #cutPackets = new Set<string>();
  #waiting: Waiting[] = [];
  #view: DataView = new DataView(new ArrayBuffer(0));

  /** `headerBytes`: of the virtio header in front of each packet. */
  constructor(request: TraceRequest, headerBytes: number, nowMs: number) {
    this.#request = request;
    this.#headerBytes = headerBytes;
    this.#until = nowMs + request.forMs;
    this.#addresses = request.filter.addresses.map((address) => addressToBytes(address));
  }

  /** As many as were wanted are found, or as many bytes, or its time is over. */
  isOver(nowMs: number): boolean {
    return nowMs >= this.#until || this.#bound !== 'time';
  }

  /** Why it is over, once it is. */
  get endedBy(): TraceEnd {
    return this.#bound;
  }

  get #bound(): TraceEnd {
    if (this.#found.length >= this.#request.packets_max) return 'packets';
    return this.#kept >= this.#request.bytes_max ? 'bytes' : 'time';
  }

  /** Whoever began it may still come for what was found. */
  isAwaited(nowMs: number): boolean {
    return nowMs < this.#until + patience_ms;
  }

  /** In the order in which fish read them. */
  get found(): readonly TracedPacket[] {
    return this.#found.toSorted((a, b) => a.atMs - b.atMs);
  }

  /** A packet as fish reads it: its headers are remembered, as they are changed in place. */
  before(buffer: Uint8Array, length: number): void {
    const start = this.#headerBytes;
    this.#isPacket = this.#before.read(this.#viewOf(buffer), start, length);
    if (!this.#isPacket) return;
    this.#headLength = this.#before.headersEnd - start;
    this.#head.set(buffer.subarray(start, start + this.#headLength));
    this.#before.read(this.#headView, 0, this.#headLength);
  }

  /** `forwarded`: it leaves as it is in the buffer now. */
  after(buffer: Uint8Array, length: number, verdict: number, forwarded: boolean, nowMs: number): void {
    this.#isWanted = false;
    if (!this.#isPacket) return;
    const after = forwarded && this.#after.read(this.#viewOf(buffer), this.#headerBytes, length) ? this.#after : null;
    const cutPacket = this.#before.fragmentAt < 0 ? undefined : this.#before.cutPacket();
    this.#isWanted = this.#matches(this.#before, after);
    // Only the first fragment has ports, so all others fare as it does.
    if (cutPacket !== undefined && this.#before.fragmentAt === 0) this.#settle(cutPacket, nowMs);
    else this.#isWanted ||= cutPacket !== undefined && this.#cutPackets.has(cutPacket);
    const mayBe =
      !this.#isWanted && verdict === HELD && cutPacket !== undefined && this.#matches(this.#before, null, false);
    if (!this.#isWanted && !mayBe) return;
    const before = this.#cut(buffer, length);
    before.set(this.#head.subarray(0, Math.min(this.#headLength, before.length)));
    const packet: TracedPacket = {
      kind: 'packet',
      atMs: nowMs,
      verdict,
      bytes: length - this.#headerBytes,
      before,
      after: forwarded ? this.#cut(buffer, length) : null,
    };
    if (!mayBe) this.#keep(packet, nowMs);
    else this.#waiting = [...this.#waiting.slice(1 - waiting_max), { cutPacket, packet }];
  }

  /** What leaves behind the last packet because it has waited for it, or instead of it because fish answers. */
  left(kind: 'released' | 'reply', buffer: Uint8Array, length: number, verdict: number, nowMs: number): void {
    const isOfFlow = () =>
      this.#after.read(this.#viewOf(buffer), this.#headerBytes, length) && this.#matches(this.#after, null);
    if (!this.#isWanted && !isOfFlow()) return;
    const bytes = length - this.#headerBytes;
    this.#keep({ kind, atMs: nowMs, verdict, bytes, before: null, after: this.#cut(buffer, length) }, nowMs);
  }

  /** What fish says by itself, behind no packet. */
  said(buffer: Uint8Array, length: number, nowMs: number): void {
    this.#isWanted = false;
    this.left('reply', buffer, length, FORWARD, nowMs);
  }

  /** What was kept of a packet until its first fragment came is looked for if that is. */
  #settle(cutPacket: string, nowMs: number): void {
    const waited = this.#waiting.filter((each) => each.cutPacket === cutPacket);
    this.#waiting = this.#waiting.filter((each) => each.cutPacket !== cutPacket);
    this.#cutPackets.delete(cutPacket);
    if (!this.#isWanted) return;
    const [oldest] = this.#cutPackets;
    if (oldest !== undefined && this.#cutPackets.size >= cutPackets_max) this.#cutPackets.delete(oldest);
    this.#cutPackets.add(cutPacket);
    for (const { packet } of waited) this.#keep(packet, nowMs);
  }

  #keep(packet: TracedPacket, nowMs: number): void {
    if (this.isOver(nowMs)) return;
    this.#found.push(packet);
    this.#kept += (packet.before?.length ?? 0) + (packet.after?.length ?? 0);
  }

  #cut(buffer: Uint8Array, length: number): Uint8Array {
    const snap = Math.max(this.#request.snapBytes, snapBytes_min);
    return buffer.slice(this.#headerBytes, Math.min(length, this.#headerBytes + snap));
  }

  #viewOf(buffer: Uint8Array): DataView {
    if (this.#view.buffer !== buffer.buffer || this.#view.byteOffset !== buffer.byteOffset)
      this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    return this.#view;
  }

  /** Whether the packet itself is of such a flow, or the one that it quotes. */
  #matches(before: PacketEnds, after: PacketEnds | null, byPorts = true): boolean {
    return (
      this.#isOfFlow(before, after, byPorts) ||
      (before.quoted !== null && this.#isOfFlow(before.quoted, after?.quoted ?? null, byPorts))
    );
  }

  #isOfFlow(before: PacketEnds, after: PacketEnds | null, byPorts: boolean): boolean {
    const { protocol, ports } = this.#request.filter;
    if (protocol !== undefined && before.protocol !== protocolNumber(protocol, before.family)) return false;
    for (const address of this.#addresses)
      if (!before.hasAddress(address) && after?.hasAddress(address) !== true) return false;
    if (byPorts) for (const port of ports) if (!before.hasPort(port) && after?.hasPort(port) !== true) return false;
    return true;
  }
}
