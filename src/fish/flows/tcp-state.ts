import type { TcpColumns } from './flow-memory.ts';
import { ACK, FIN, RST, SYN, type Packet } from '../packet/packet.ts';
import { TCP_HEADER } from '../packet/offsets.ts';
import { findOption, WINDOW_SCALE } from '../packet/tcp-options.ts';

/** Which way a packet goes: from the client, or to it. */
export const OUTWARD = 0;
export const INWARD = 1;

/**
 * What a segment means for the life of its flow.
 *
 * - OPENING: the handshake is under way.
 * - ESTABLISHED: it is complete. Also half closed: data may flow the other way for hours.
 * - CLOSING: both sides have sent their FIN.
 * - CLOSED: both FINs are acknowledged.
 * - RESET: a plausible RST went by.
 * - DOUBTFUL: a RST in window, but not where RFC 5961 has a receiver obey it.
 * - STRAY: from outside, and nothing that the client would take for its connection's. It says nothing about the flow.
 * - CALLED: a SYN from outside that acknowledges nothing. The other end may open, too, at the same time, but anybody can send
 *   that: what it begins is believed when something shows that it was the other end, and it keeps nothing alive.
 */
export const OPENING = 0;
export const ESTABLISHED = 1;
export const CLOSING = 2;
export const CLOSED = 3;
export const RESET = 4;
export const DOUBTFUL = 5;
export const STRAY = 6;
export const CALLED = 7;

/** Bits of a side, kept per direction. */
const SEEN_SYN = 1;
const SEEN_FIN = 2;
const FIN_ACKNOWLEDGED = 4;
/** This side offered to scale its windows (RFC 7323). */
const SCALES = 8;
/** This side has acknowledged the other's SYN by a segment that is not itself a SYN. */
const PAST_SYN = 16;
/** That this side's SYN is its own has shown: it, or what the other side said later, acknowledged something. */
const CONFIRMED = 32;

/** An acknowledgement may be this old even when the window is smaller: the constant of Guido van Rooij's paper. */
const ACK_AGE_MIN = 66_000;

const SCALE_MAX = 14;

/** Serial number arithmetic (RFC 1982): whether `a` comes after `b`, less than half the space away. */
const after = (a: number, b: number): boolean => ((a - b) | 0) > 0;
const before = (a: number, b: number): boolean => ((a - b) | 0) < 0;

/**
 * Follows TCP connections closely enough to know when they are over, and no closer. What it believes has to be in
 * window, by the four conditions of "Real Stateful TCP Packet Filtering in IP Filter" (G. van Rooij, 2000), so that
 * who can guess a tuple, but not the sequence numbers, can neither end a flow nor keep it alive.
 *
 * Per flow two sides, each a row: the client's is `flow * 2`, the remote's `flow * 2 + 1`.
 */
export class TcpTracker {
  /** The sequence number after the highest that the side sent. */
  readonly #end: Uint32Array;
  /** The highest that it may send: what the other side acknowledged, plus its window. */
  readonly #limit: Uint32Array;
  /** The next sequence number that the side awaits: its highest acknowledgement. */
  readonly #awaits: Uint32Array;
  /** The largest window it ever offered. */
  readonly #windowMax: Uint32Array;
  readonly #scale: Uint8Array;
  readonly #seen: Uint8Array;
  readonly #reopenings = new Reopenings();

  constructor(columns: TcpColumns) {
    this.#end = columns.end;
    this.#limit = columns.limit;
    this.#awaits = columns.awaits;
    this.#windowMax = columns.windowMax;
    this.#scale = columns.scale;
    this.#seen = columns.seen;
  }

  /**
   * Whether the two sides of a flow can be what was observed of a connection. Of numbers nothing is asked: any are possible,
   * and what follows is only believed where it fits.
   */
  isPlausible(flow: number): boolean {
    const client = flow * 2 + OUTWARD;
    const remote = flow * 2 + INWARD;
    return (
      (this.#saw(client, SEEN_SYN) || this.#saw(remote, SEEN_SYN)) &&
      Math.max(this.#seen[client]!, this.#seen[remote]!) < CONFIRMED * 2 &&
      Math.max(this.#scale[client]!, this.#scale[remote]!) <= SCALE_MAX
    );
  }

  /** Begins a flow with the SYN of one side. */
  open(flow: number, direction: number, packet: Packet): void {
    const sender = flow * 2 + direction;
    const receiver = sender ^ 1;
    this.#forget(sender);
    this.#forget(receiver);
    this.#beginSide(sender, receiver, packet);
    this.#reopenings.forget(flow);
  }

  /** Whether the remote has called, and the client not answered. */
  awaitsClient(flow: number): boolean {
    return !this.#saw(flow * 2 + OUTWARD, SEEN_SYN);
  }

  /**
   * Takes a segment of an open flow into account. What the client itself sends keeps its flow alive even when it is out
   * of window, so outwards only a RST can be a STRAY.
   */
  observe(flow: number, direction: number, packet: Packet): number {
    const sender = flow * 2 + direction;
    const receiver = sender ^ 1;
    const { flags } = packet;
    if ((flags & RST) !== 0) return this.#onReset(sender, receiver, packet);
    const isSyn = (flags & SYN) !== 0;
    const believed = isSyn
      ? this.#takeSyn(sender, receiver, packet) || this.#reopen(flow, direction, packet)
      : this.#takeSegment(sender, receiver, packet);
    if (direction === INWARD) {
      if (!believed) return STRAY;
      if (isSyn && (flags & ACK) === 0) return CALLED;
    }
    return this.#phase(sender, receiver);
  }

  /** A segment of this side has come in pieces, and reaches further than the first of them told. */
  extend(flow: number, direction: number, end: number): void {
    const sender = flow * 2 + direction;
    if (after(end, this.#end[sender]!) && !after(end, this.#limit[sender]!)) this.#end[sender] = end;
  }

  /**
   * A SYN that acknowledges the other's is no blind guess, so it replaces a side that began differently: a forged SYN
   * may have come first. A SYN of another sequence number than before is a new attempt if nothing has answered yet.
   */
  #takeSyn(sender: number, receiver: number, packet: Packet): boolean {
    const answers = (packet.flags & ACK) !== 0;
    if (answers && !this.#acknowledgesSyn(sender, receiver, packet)) return false;
    const underWay = !this.#saw(sender, PAST_SYN) && !this.#saw(receiver, PAST_SYN);
    const isRepeated = ((packet.sequence + 1) | 0) === (this.#awaits[receiver]! | 0);
    // Whoever has called meanwhile may be anybody, and is forgotten when the client begins anew.
    const isAnew = (sender & 1) === OUTWARD && !answers && !isRepeated && !this.#saw(receiver, CONFIRMED);
    const isFirst = !this.#saw(sender, SEEN_SYN);
    if (isFirst || (underWay && (answers || isAnew || !this.#saw(receiver, SEEN_SYN)))) {
      if (isAnew && !isFirst) this.#forget(receiver);
      this.#beginSide(sender, receiver, packet);
    } else if (!isRepeated) return false;
    if (answers) this.#acknowledge(sender, receiver, packet);
    return true;
  }

  /**
   * A client that has lost its connection begins another from the same port, and so may its server have: if that answers the SYN, both
   * have forgotten the old one (RFC 9293 3.5.1). As long as it does not, the old one is what there is.
   */
  #reopen(flow: number, direction: number, packet: Packet): boolean {
    const client = flow * 2 + OUTWARD;
    const remote = flow * 2 + INWARD;
    if (direction === OUTWARD) {
      if ((packet.flags & ACK) === 0) this.#reopenings.note(flow, packet);
      return false;
    }
    const opening = (packet.flags & ACK) === 0 ? null : this.#reopenings.answeredBy(flow, packet);
    if (opening === null) return false;
    this.#forget(client);
    this.#forget(remote);
    this.#beginSideAs(client, remote, opening);
    return this.#takeSyn(remote, client, packet);
  }

  #takeSegment(sender: number, receiver: number, packet: Packet): boolean {
    if (!this.#isInWindow(sender, receiver, packet)) return false;
    this.#advance(sender, receiver, packet);
    return true;
  }

  #acknowledgesSyn(sender: number, receiver: number, packet: Packet): boolean {
    return (
      this.#saw(receiver, SEEN_SYN) &&
      !before(packet.acknowledgement, this.#awaits[sender]!) &&
      !after(packet.acknowledgement, this.#end[receiver]!)
    );
  }

  /**
   * A receiver obeys a RST that carries exactly the number it awaits (RFC 5961 3.2). Fish may have seen more or less than
   * the receiver has, so two numbers will do: what the receiver acknowledged last, and what follows the sender's data.
   */
  #onReset(sender: number, receiver: number, packet: Packet): number {
    if (!this.#saw(sender, CONFIRMED)) {
      // The answer to a SYN carries no sequence number; that it knows the SYN's shows in its acknowledgement. So does whether
      // it comes from who sent the SYN that is here, if one is: anybody may have.
      return (packet.flags & ACK) !== 0 && this.#acknowledgesSyn(sender, receiver, packet) ? RESET : STRAY;
    }
    const { sequence } = packet;
    if (sequence === this.#awaits[receiver] || sequence === this.#end[sender]) return RESET;
    const inWindow = !before(sequence, this.#awaits[receiver]!) && !after(sequence, this.#limit[sender]!);
    return inWindow ? DOUBTFUL : STRAY;
  }

  /** The four conditions: data neither beyond the window nor older than one, acknowledgement likewise. */
  #isInWindow(sender: number, receiver: number, packet: Packet): boolean {
    if (!this.#saw(sender, SEEN_SYN) || !this.#saw(receiver, SEEN_SYN) || (packet.flags & ACK) === 0) return false;
    const oldestAck = this.#end[receiver]! - Math.max(this.#windowMax[sender]!, ACK_AGE_MIN);
    return (
      !after(packet.sequence, this.#limit[sender]!) &&
      !before(endOf(packet), this.#end[sender]! - this.#windowMax[receiver]!) &&
      !after(packet.acknowledgement, this.#end[receiver]!) &&
      !before(packet.acknowledgement, oldestAck)
    );
  }

  #advance(sender: number, receiver: number, packet: Packet): void {
    const end = endOf(packet);
    if (after(end, this.#end[sender]!)) this.#end[sender] = end;
    this.#mark(sender, PAST_SYN);
    if ((packet.flags & FIN) !== 0) this.#mark(sender, SEEN_FIN);
    this.#acknowledge(sender, receiver, packet);
    // No data follows a FIN, so who acknowledges everything has acknowledged the FIN.
    if (this.#saw(receiver, SEEN_FIN) && packet.acknowledgement === this.#end[receiver])
      this.#mark(receiver, FIN_ACKNOWLEDGED);
  }

  /** What the sender's acknowledgement and window allow the receiver to send. */
  #acknowledge(sender: number, receiver: number, packet: Packet): void {
    this.#mark(sender, CONFIRMED);
    this.#mark(receiver, CONFIRMED);
    const scales = (packet.flags & SYN) === 0 && this.#saw(sender, SCALES) && this.#saw(receiver, SCALES);
    const window = scales ? packet.window << this.#scale[sender]! : packet.window;
    if (window > this.#windowMax[sender]!) this.#windowMax[sender] = window;
    if (after(packet.acknowledgement, this.#awaits[sender]!)) this.#awaits[sender] = packet.acknowledgement;
    // A closed window is probed with one byte.
    const limit = packet.acknowledgement + Math.max(window, 1);
    if (after(limit, this.#limit[receiver]!)) this.#limit[receiver] = limit;
  }

  #phase(sender: number, receiver: number): number {
    const both = this.#seen[sender]! & this.#seen[receiver]!;
    if ((both & FIN_ACKNOWLEDGED) !== 0) return CLOSED;
    if ((both & SEEN_FIN) !== 0) return CLOSING;
    // The client's acknowledgement of the SYN-ACK completes the handshake; so does that of the later of two SYNs.
    return ((this.#seen[sender]! | this.#seen[receiver]!) & PAST_SYN) !== 0 ? ESTABLISHED : OPENING;
  }

  #beginSide(side: number, other: number, packet: Packet): void {
    this.#beginSideAs(side, other, openingOf(packet));
  }

  #beginSideAs(side: number, other: number, { sequence, end, window, scale }: Opening): void {
    this.#end[side] = end;
    // With data in the SYN (Fast Open) the other side may acknowledge just the SYN, or all of it.
    this.#awaits[other] = sequence + 1;
    this.#windowMax[side] = Math.max(window, 1);
    // As much as the other side's SYN has offered, if it was seen: a Fast Open server sends before it is acknowledged.
    this.#limit[side] = end + this.#windowMax[other]!;
    this.#scale[side] = Math.max(scale, 0);
    this.#seen[side] = scale < 0 ? SEEN_SYN : SEEN_SYN | SCALES;
    // Clients are who they are.
    if ((side & 1) === OUTWARD) this.#mark(side, CONFIRMED);
  }

  #forget(side: number): void {
    this.#seen[side] = 0;
    this.#windowMax[side] = 0;
  }

  #saw(side: number, bit: number): boolean {
    return (this.#seen[side]! & bit) !== 0;
  }

  #mark(side: number, bit: number): void {
    this.#seen[side] = this.#seen[side]! | bit;
  }
}

/** The SYN that begins a connection, rather than the answer to one. */
export const isFirstSyn = (packet: Packet): boolean => (packet.flags & (SYN | ACK)) === SYN;

/** What a SYN says of its side. `scale`: -1 for none. */
type Opening = Readonly<{ sequence: number; end: number; window: number; scale: number }>;

const openingOf = (packet: Packet): Opening => ({
  sequence: packet.sequence,
  end: endOf(packet),
  window: packet.window,
  scale: windowScaleOf(packet),
});

/** So many at a time: what it costs that two of them meet is that the one which came first is not followed. */
const reopenings_max = 256;

/** The last SYN of clients that may have begun anew, each until it is answered, its flow ends, or another takes its place. */
class Reopenings {
  readonly #flows = new Int32Array(reopenings_max).fill(-1);
  readonly #openings = new Array<Opening | null>(reopenings_max).fill(null);

  note(flow: number, packet: Packet): void {
    const place = flow % reopenings_max;
    this.#flows[place] = flow;
    this.#openings[place] = openingOf(packet);
  }

  forget(flow: number): void {
    const place = flow % reopenings_max;
    if (this.#flows[place] === flow) this.#flows[place] = -1;
  }

  /** What this SYN acknowledges, all of it or, of a SYN with data, the SYN; null if that is not the last of its flow. */
  answeredBy(flow: number, { acknowledgement }: Packet): Opening | null {
    const place = flow % reopenings_max;
    const opening = this.#flows[place] === flow ? (this.#openings[place] ?? null) : null;
    if (opening === null || before(acknowledgement, opening.sequence + 1) || after(acknowledgement, opening.end))
      return null;
    this.forget(flow);
    return opening;
  }
}

/** The sequence number after the segment; SYN and FIN count one each. */
export function endOf(packet: Packet): number {
  const { flags } = packet;
  return packet.sequence + (packet.end - packet.dataAt) + ((flags & SYN) === 0 ? 0 : 1) + ((flags & FIN) === 0 ? 0 : 1);
}

/** The shift count that a SYN offers, or -1. */
function windowScaleOf({ view, transport, dataAt }: Packet): number {
  const at = findOption(view, transport + TCP_HEADER, dataAt, WINDOW_SCALE);
  return at < 0 ? -1 : Math.min(view.getUint8(at + 2), SCALE_MAX);
}
