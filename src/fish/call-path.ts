import type { FlowKeeping } from './flows/flow-keeping.ts';
import type { FlowLife } from './flows/flow-life.ts';
import { NONE } from './flows/flow-table.ts';
import { INWARD, isFirstSyn } from './flows/tcp-state.ts';
import { isTcp, type Packet } from './packet/packet.ts';
import { DROP, FORWARD } from './verdicts.ts';

/**
 * TCP connections that somebody outside, or another client, begins with a mapped port (RFC 5382 REQ-1 to REQ-3): each is a flow
 * as any other, which began with the other side's SYN. What the client's filter lets in is not answered but passed on, so it
 * is the client who accepts or refuses.
 */
export class CallPath {
  readonly #life: FlowLife;
  readonly #keeping: FlowKeeping;

  constructor(life: FlowLife, keeping: FlowKeeping) {
    this.#life = life;
    this.#keeping = keeping;
  }

  /**
   * The flow by which this connection comes in, or the negated reason why it does not. `flow`: NONE, or the one that rests
   * with this very tuple; `remote` and its port are those that the client will see.
   */
  take(flow: number, packet: Packet, remoteBits: number, remotePort: number, nowMs: number): number {
    const remote = remoteBits >>> 0;
    const { mappings, flows, calls } = this.#life;
    const { protocol, destination, destinationPort } = packet;
    if (mappings === null || !isTcp(protocol) || !isFirstSyn(packet)) return -DROP.no_flow;
    const mapping = mappings.at(protocol, destination, destinationPort, remote);
    if (mapping === NONE) return -DROP.no_flow;
    if (!mappings.letsIn(mapping, remote)) return -DROP.filtered;
    const firstMs = this.#keeping.firstMsOf(protocol);
    if (flow === NONE || this.#life.yielding.has(flow))
      return this.#life.openCall(packet, mapping, remote, remotePort, flow, firstMs, nowMs);
    // Its client's key may lead to another flow by now.
    if (!flows.isAttached(flow)) return -DROP.resting;
    const admitted = calls.admit(mapping, nowMs);
    if (admitted !== FORWARD) return -admitted;
    this.#life.restart(flow, INWARD, packet, firstMs, nowMs);
    return flow;
  }
}
