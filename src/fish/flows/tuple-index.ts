import { EMPTY, ProbedRows } from '../tables/probed-rows.ts';

/** The columns of the flow table that make up one of its two keys. The rows are flow numbers. */
export type TupleColumns = Readonly<{
  protocol: Uint8Array;
  address: Uint32Array;
  port: Uint16Array;
  remote: Uint32Array;
  remotePort: Uint16Array;
}>;

/** From (protocol, address, port, remote, remote port) to a flow number, over columns that somebody else owns. */
export class TupleIndex {
  readonly #rows: ProbedRows;
  readonly #columns: TupleColumns;

  constructor(capacity: number, columns: TupleColumns, random: () => number) {
    this.#rows = new ProbedRows(capacity, random);
    this.#columns = columns;
  }

  /**
   * The flow with this tuple, or -1. Addresses may have a sign, and better do: what is handed on beyond 31 bits is an object, made for
   * each packet.
   */
  find(protocol: number, address: number, port: number, remote: number, remotePort: number): number {
    const { places, mask, hashes } = this.#rows;
    const hash = this.#hash(protocol, address, port, remote, remotePort);
    const columns = this.#columns;
    const addressBits = address | 0;
    const remoteBits = remote | 0;
    for (let place = hash & mask; ; place = (place + 1) & mask) {
      // Every place is below the size.
      const flow = places[place]!;
      if (flow === EMPTY) return EMPTY;
      if (
        hashes[flow] === hash &&
        (columns.address[flow]! | 0) === addressBits &&
        columns.port[flow] === port &&
        (columns.remote[flow]! | 0) === remoteBits &&
        columns.remotePort[flow] === remotePort &&
        columns.protocol[flow] === protocol
      )
        return flow;
    }
  }

  /** Adds a flow whose columns are filled. No flow with the same tuple may be in the index. */
  add(flow: number): void {
    const { protocol, address, port, remote, remotePort } = this.#columns;
    // The caller's flow number is a row of every column.
    const hash = this.#hash(protocol[flow]!, address[flow]!, port[flow]!, remote[flow]!, remotePort[flow]!);
    this.#rows.add(flow, hash);
  }

  /** Takes a flow out that is in the index; that it is not is a bug, and throws. */
  remove(flow: number): void {
    this.#rows.remove(flow);
  }

  #hash(protocol: number, address: number, port: number, remote: number, remotePort: number): number {
    return this.#rows.hash(address, remote, (port << 16) | remotePort, protocol);
  }
}
