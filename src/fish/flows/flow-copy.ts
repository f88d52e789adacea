import { NO_ADDRESS } from '../packet/address-book.ts';
import type { FlowMemory } from './flow-memory.ts';
import { FREE } from './flow-table.ts';
import { IPV6 } from '../packet/packet.ts';

type Columns = Readonly<Record<string, Float64Array | Uint32Array | Int32Array | Uint16Array | Uint8Array>>;

/**
 * Copies what a memory of one size holds into a fresh one of another: the settings have changed between two processes.
 * `left`: flows that found no room, their addresses included. Blocks keep their slots; one whose slot the other has not is left,
 * and its flows will have no block. The rows are copied as they are, to be checked by who adopts them; only IPv6 addresses get
 * other numbers.
 */
export function copyMemory(from: FlowMemory, to: FlowMemory): Readonly<{ copied: number; left: number }> {
  const { flows, tcp, peers, blocks } = from.columns;
  const target = to.columns;
  const addresses = new CopiedAddresses(from.columns.addresses.words, target.addresses.words);
  for (let slot = 0; slot < Math.min(from.sizes.blocksMax, to.sizes.blocksMax); slot++) {
    if (blocks.leaseBytes[slot] === 0) continue;
    copyRow(blocks, slot, target.blocks, slot, blocks.leaseBytes.length);
    // slot is a row of both.
    if (blocks.protocol[slot]! >= IPV6) target.blocks.address[slot] = addresses.copy(blocks.address[slot]!);
  }
  const rowOf = new Int32Array(from.sizes.flowsMax).fill(-1);
  let copied = 0;
  let left = 0;
  for (let flow = 0; flow < from.sizes.flowsMax; flow++) {
    if (flows.state[flow] === FREE) continue;
    const isIPv6 = flows.protocol[flow]! >= IPV6;
    const ends = addressColumns.map((column) => flows[column][flow]!);
    if (copied === to.sizes.flowsMax || (isIPv6 && !addresses.hasRoomFor(ends))) {
      left++;
      continue;
    }
    copyRow(tcp, flow, target.tcp, copied, from.sizes.flowsMax);
    copyRow(flows, flow, target.flows, copied, from.sizes.flowsMax);
    if (isIPv6)
      for (const column of addressColumns) target.flows[column][copied] = addresses.copy(flows[column][flow]!);
    rowOf[flow] = copied++;
  }
  let next = 0;
  for (let entry = 0; entry < from.sizes.peersMax && next < to.sizes.peersMax; entry++) {
    const row = rowOf[peers.owner[entry]! - 1] ?? -1;
    if (row < 0) continue;
    const isIPv6 = target.flows.protocol[row]! >= IPV6;
    target.peers.remote[next] = isIPv6 ? addresses.copy(peers.remote[entry]!) : peers.remote[entry]!;
    target.peers.port[next] = peers.port[entry]!;
    target.peers.owner[next++] = row + 1;
  }
  return { copied, left };
}

const addressColumns = ['client', 'leased', 'remote'] as const;

/** Rows of one address book in another: each is copied once, for as long as there is room. */
class CopiedAddresses {
  readonly #from: Uint32Array;
  readonly #to: Uint32Array;
  readonly #numbers: Uint32Array;
  #next = 1;

  constructor(from: Uint32Array, to: Uint32Array) {
    this.#from = from;
    this.#to = to;
    this.#numbers = new Uint32Array(from.length / 4);
  }

  hasRoomFor(rows: readonly number[]): boolean {
    const missing = new Set(rows.filter((row) => row !== NO_ADDRESS && this.#numbers[row] === NO_ADDRESS));
    return (this.#next + missing.size) * 4 <= this.#to.length;
  }

  /** The number of a row's copy; NO_ADDRESS for what is no row, and when there is no room. */
  copy(row: number): number {
    const known = this.#numbers[row] ?? NO_ADDRESS;
    const isRow = row !== NO_ADDRESS && row < this.#numbers.length;
    if (known !== NO_ADDRESS || !isRow || this.#next * 4 >= this.#to.length) return known;
    this.#to.set(this.#from.subarray(row * 4, row * 4 + 4), this.#next * 4);
    this.#numbers[row] = this.#next;
    return this.#next++;
  }
}

/** A row of every column; where a column has several values a row, all of them. */
function copyRow(from: Columns, row: number, to: Columns, target: number, rows: number): void {
  for (const [name, column] of Object.entries(from)) {
    const each = column.length / rows;
    for (let i = 0; i < each; i++) to[name]![target * each + i] = column[row * each + i]!;
  }
}
