import type { FishConfig } from '../config.ts';
import type { TrafficCounters } from '../counters.ts';
import type { FlowLife } from './flow-life.ts';
import { isTcp, isUdp, type Packet } from '../packet/packet.ts';
import { CALLED, CLOSED, DOUBTFUL, ESTABLISHED, INWARD, OPENING, OUTWARD, RESET, STRAY } from './tcp-state.ts';

/**
 * What a packet that was let through means for the life of its flow: how much longer it lasts, or that it is over. To be told
 * after the translation, because a flow that takes no rest is gone when it ends.
 */
export class FlowKeeping {
  readonly #life: FlowLife;
  readonly #traffic: TrafficCounters;
  readonly #inboundRefreshes: boolean;
  readonly #tcpEstablishedMs: number;
  readonly #tcpOpeningMs: number;
  readonly #tcpTransitoryMs: number;
  readonly #udpMs: number;
  readonly #icmpMs: number;

  constructor(
    { timers, udpInboundRefresh }: Pick<FishConfig, 'timers' | 'udpInboundRefresh'>,
    life: FlowLife,
    traffic: TrafficCounters,
  ) {
    this.#life = life;
    this.#traffic = traffic;
    this.#inboundRefreshes = udpInboundRefresh;
    this.#tcpEstablishedMs = timers.tcpEstablishedS * 1_000;
    this.#tcpOpeningMs = timers.tcpOpeningS * 1_000;
    this.#tcpTransitoryMs = timers.tcpTransitoryS * 1_000;
    this.#udpMs = timers.udpS * 1_000;
    this.#icmpMs = timers.icmpS * 1_000;
  }

  /** How long a flow lasts of which only the client has been heard. */
  firstMsOf(protocol: number): number {
    return isTcp(protocol) ? this.#tcpOpeningMs : isUdp(protocol) ? this.#udpMs : this.#icmpMs;
  }

  /** A client's packet; not the one that began a TCP flow, which is followed from there on, nor of one that rests. */
  outward(flow: number, packet: Packet, nowMs: number): void {
    if (isTcp(packet.protocol)) this.#followTcp(flow, OUTWARD, packet, nowMs);
    else this.#keepFor(flow, this.firstMsOf(packet.protocol), nowMs);
  }

  /** What comes in keeps a TCP flow alive, but no other: anybody could send that (RFC 4787 REQ-6, RFC 5508). */
  inward(flow: number, packet: Packet, nowMs: number): void {
    if (isTcp(packet.protocol)) this.#followTcp(flow, INWARD, packet, nowMs);
    else if (this.#inboundRefreshes && isUdp(packet.protocol)) this.#keepFor(flow, this.#udpMs, nowMs);
  }

  #followTcp(flow: number, direction: number, packet: Packet, nowMs: number): void {
    const meaning = this.#life.tcp.observe(flow, direction, packet);
    // A reset is no answer: it leaves nothing behind.
    if (direction === OUTWARD && meaning !== RESET) this.#life.answered(flow);
    if (meaning === ESTABLISHED) this.#keepFor(flow, this.#tcpEstablishedMs, nowMs);
    else if (meaning === OPENING) this.#keepFor(flow, this.#tcpOpeningMs, nowMs);
    else if (meaning === CLOSED) this.#life.end(flow, 'finished', nowMs);
    else if (meaning === RESET) this.#life.end(flow, 'reset', nowMs);
    else if (meaning === STRAY) this.#traffic.tcpStrays++;
    else if (meaning === DOUBTFUL) {
      this.#traffic.tcpResetsDoubted++;
      // It can only shorten the wait: if the connection lives, its answer (RFC 5961 3.2) lengthens it again.
      this.#life.shorten(flow, nowMs + this.#tcpTransitoryMs, nowMs);
    } else if (meaning !== CALLED) this.#keepFor(flow, this.#tcpTransitoryMs, nowMs);
  }

  #keepFor(flow: number, ms: number, nowMs: number): void {
    this.#life.setDeadline(flow, nowMs + ms, nowMs);
  }
}
