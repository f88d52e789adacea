import type { FlowMemory } from './flow-memory.ts';
import { FREE } from './flow-table.ts';

type Columns = Readonly<Record<string, Float64Array | Uint32Array | Int32Array | Uint16Array | Uint8Array>>;

/**
 * Copies what a memory of one size holds into a fresh one of another: the settings have changed between two processes.
 * `left`: flows that found no room. Blocks keep their slots; one whose slot the other has not is left, and its flows will
 * have no block. The rows are copied as they are, to be checked by who adopts them.
 */
export function copyMemory(from: FlowMemory, to: FlowMemory): Readonly<{ copied: number; left: number }> {
  const { flows, tcp, peers, blocks } = from.columns;
  for (let slot = 0; slot < Math.min(from.sizes.blocksMax, to.sizes.blocksMax); slot++)
    copyRow(blocks, slot, to.columns.blocks, slot, blocks.leaseBytes.length);
  const rowOf = new Int32Array(from.sizes.flowsMax).fill(-1);
  let copied = 0;
  let left = 0;
  for (let flow = 0; flow < from.sizes.flowsMax; flow++) {
    if (flows.state[flow] === FREE) continue;
    if (copied === to.sizes.flowsMax) {
      left++;
      continue;
    }
    copyRow(tcp, flow, to.columns.tcp, copied, from.sizes.flowsMax);
    copyRow(flows, flow, to.columns.flows, copied, from.sizes.flowsMax);
    rowOf[flow] = copied++;
  }
  let next = 0;
  for (let entry = 0; entry < from.sizes.peersMax && next < to.sizes.peersMax; entry++) {
    const row = rowOf[peers.owner[entry]! - 1] ?? -1;
    if (row < 0) continue;
    to.columns.peers.remote[next] = peers.remote[entry]!;
    to.columns.peers.port[next] = peers.port[entry]!;
    to.columns.peers.owner[next++] = row + 1;
  }
  return { copied, left };
}

/** A row of every column; where a column has several values a row, all of them. */
function copyRow(from: Columns, row: number, to: Columns, target: number, rows: number): void {
  for (const [name, column] of Object.entries(from)) {
    const each = column.length / rows;
    for (let i = 0; i < each; i++) to[name]![target * each + i] = column[row * each + i]!;
  }
}
