/** What passed through a flow, from its client and to it, since it began or was taken over. Bytes are those of IP packets. */
export type Traffic = Readonly<{ packetsOut: number; bytesOut: number; packetsIn: number; bytesIn: number }>;

const columns = 4;

/** Packets and bytes of each flow, both directions: side by side, so that a packet costs one cache line. */
export class FlowTraffic {
  readonly #counts: Float64Array;

  constructor(flowsMax: number) {
    this.#counts = new Float64Array(flowsMax * columns);
  }

  /** `direction`: OUTWARD or INWARD, 0 or 1. */
  count(flow: number, direction: number, bytes: number): void {
    const at = flow * columns + direction * 2;
    // flow is a row of the table.
    this.#counts[at] = this.#counts[at]! + 1;
    this.#counts[at + 1] = this.#counts[at + 1]! + bytes;
  }

  /** The row is another flow's from now on. */
  begin(flow: number): void {
    this.#counts.fill(0, flow * columns, (flow + 1) * columns);
  }

  bytesOf(flow: number): number {
    return this.#counts[flow * columns + 1]! + this.#counts[flow * columns + 3]!;
  }

  of(flow: number): Traffic {
    const counts = this.#counts;
    const at = flow * columns;
    // flow is a row of the table.
    return { packetsOut: counts[at]!, bytesOut: counts[at + 1]!, packetsIn: counts[at + 2]!, bytesIn: counts[at + 3]! };
  }
}
