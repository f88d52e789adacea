import { familyOf, type Address } from '../../net/address.ts';
import type { LeasedBlock } from './blocks.ts';
import { leaseBytes_max, type BlockColumns } from '../flows/flow-memory.ts';
import { flowProtocol, protocolName } from '../packet/packet.ts';

const EXCLUSIVE = 0;
const SHARED_LATE = 1;
const SHARED_EXPLICIT = 2;

/**
 * Writes a block down in its slot, for whoever finds this memory later. One whose lease has a longer name than there is
 * room for is not remembered: its flows are lost with the process. `address`: the number of its address.
 */
export function writeBlock(rows: BlockColumns, slot: number, block: LeasedBlock, address: number): void {
  const { lease } = block;
  rows.address[slot] = address;
  rows.firstPort[slot] = block.ports.first;
  rows.lastPort[slot] = block.ports.last;
  rows.protocol[slot] = flowProtocol(block.protocol, familyOf(block.address));
  rows.kind[slot] =
    block.mode === 'exclusive' ? EXCLUSIVE : block.binding === 'explicit' ? SHARED_EXPLICIT : SHARED_LATE;
  if (lease.length > leaseBytes_max || !isPrintableAscii(lease)) return;
  for (let i = 0; i < lease.length; i++) rows.lease[slot * leaseBytes_max + i] = lease.charCodeAt(i);
  rows.leaseBytes[slot] = lease.length;
}

export function eraseBlock(rows: BlockColumns, slot: number): void {
  rows.leaseBytes[slot] = 0;
}

/**
 * The block that somebody wrote down here; undefined when there is none, or none that it could be. `textOf`: the text of an
 * address's number, undefined for one that is no address.
 */
export function readBlock(
  rows: BlockColumns,
  slot: number,
  textOf: (protocol: number, address: number) => Address | undefined,
): LeasedBlock | undefined {
  // slot is a row of every column.
  const bytes = rows.leaseBytes[slot]!;
  if (bytes === 0 || bytes > leaseBytes_max) return undefined;
  const at = slot * leaseBytes_max;
  const lease = String.fromCharCode(...rows.lease.subarray(at, at + bytes));
  const protocol = protocolName(rows.protocol[slot]!);
  const kind = rows.kind[slot]!;
  const ports = { first: rows.firstPort[slot]!, last: rows.lastPort[slot]! };
  const address = textOf(rows.protocol[slot]!, rows.address[slot]!);
  if (!isPrintableAscii(lease) || protocol === undefined || address === undefined) return undefined;
  if (kind > SHARED_EXPLICIT || ports.first > ports.last) return undefined;
  return {
    lease,
    address,
    protocol,
    ports,
    mode: kind === EXCLUSIVE ? 'exclusive' : 'shared',
    binding: kind === EXCLUSIVE ? null : kind === SHARED_LATE ? 'late' : 'explicit',
  };
}

const isPrintableAscii = (text: string): boolean => /^[!-~]+$/.test(text);
