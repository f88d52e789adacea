import type { FishConfig } from '../config.ts';
import { isTcp, type Packet } from '../packet/packet.ts';
import type { Subscribers } from '../ports/subscribers.ts';
import { ProhibitedReply } from './icmp-prohibited.ts';
import { ResetReply } from './reset-reply.ts';
import { UnsolicitedSyns } from './unsolicited-syns.ts';

export type AnswerCounts = Readonly<{
  icmpErrorsSent: number;
  icmpErrorsSuppressed: number;
  /** Of fish's own, to clients that get no source. */
  tcpResetsSent: number;
  tcpResetsSuppressed: number;
  /** SYNs from outside that nobody waited for: those that were kept for six seconds, and the ones answered after that. */
  unsolicitedSynsHeld: number;
  unsolicitedSynsAnswered: number;
}>;

/** What fish says itself, one packet at a time: refusals to clients, and late answers to whoever calls a port of nobody's. */
export class Answers {
  readonly #prohibited: ProhibitedReply;
  /** null: TCP is refused by ICMP, too. */
  readonly #resets: ResetReply | null;
  /** null: they are dropped. */
  readonly #syns: UnsolicitedSyns | null;
  /** The answer, its virtio header included. */
  buffer: Uint8Array;
  /** Bytes of it to be written, most often 0. */
  length = 0;

  constructor(config: FishConfig, subscribers: Pick<Subscribers, 'ofSource'>, random: () => number) {
    const { icmpErrorsPerSMax, vnetHeaderBytes, refuseTcpWith, unsolicitedSyn } = config;
    this.#prohibited = new ProhibitedReply(config, subscribers, random);
    this.#resets =
      refuseTcpWith === 'rst' ? new ResetReply(icmpErrorsPerSMax, vnetHeaderBytes, subscribers, random) : null;
    this.#syns = unsolicitedSyn === 'unreachable' ? new UnsolicitedSyns(icmpErrorsPerSMax, vnetHeaderBytes) : null;
    this.buffer = this.#prohibited.buffer;
  }

  /** Tells a client that its packet, not yet translated, got no source. */
  refuse(packet: Packet, nowMs: number): void {
    const refusal = isTcp(packet.protocol) && this.#resets !== null ? this.#resets : this.#prohibited;
    this.buffer = refusal.buffer;
    this.length = refusal.write(packet, nowMs);
  }

  /** Keeps a SYN, as it came in, to be answered when it is `due`. */
  hold(packet: Packet, nowMs: number): void {
    this.#syns?.hold(packet, nowMs);
  }

  /** A client's SYN leaves, translated: the SYN of its other end, if it was here, is not answered. */
  forget(packet: Packet): void {
    this.#syns?.forget(packet);
  }

  /** Writes the next answer that is due to `buffer`; its length, or 0 when none is. */
  due(nowMs: number): number {
    const syns = this.#syns;
    if (syns === null) return 0;
    this.buffer = syns.buffer;
    return syns.due(nowMs);
  }

  counts(): AnswerCounts {
    return {
      icmpErrorsSent: this.#prohibited.sent,
      icmpErrorsSuppressed: this.#prohibited.suppressed,
      tcpResetsSent: this.#resets?.sent ?? 0,
      tcpResetsSuppressed: this.#resets?.suppressed ?? 0,
      unsolicitedSynsHeld: this.#syns?.held ?? 0,
      unsolicitedSynsAnswered: this.#syns?.answered ?? 0,
    };
  }
}
