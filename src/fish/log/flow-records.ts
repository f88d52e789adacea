import { addressFromBigInt, addressToBytes, familyOf, ipv4FromNumber, type Address } from '../../net/address.ts';
import type { AddressBook } from '../packet/address-book.ts';
import { recordedEndings, type FlowRecord } from './flow-record.ts';
import type { FlowQuery, TupleRows } from '../flows/flow-tuple.ts';
import { flowProtocol, IPV6, protocolName } from '../packet/packet.ts';

/**
 * A flow that has ended, in bytes that other threads, and later versions of this program, can read; numbers are big-endian.
 *
 *   0 opened, 8 closed: µs since 1970, as doubles
 *   16 protocol (with the bit of IPv6), 17 ending, 18 client's port, 20 leased port, 22 remote's port (0: any)
 *   24 the lease's place in a list of names beside the records
 *   32 client, 48 leased address, 64 remote (0: any); IPv4 in the first four bytes, the others 0
 */
export const flowRecord_bytes = 80;

/** Some flows that have ended, in the order in which they did. */
export type FlowRecords = Readonly<{
  records: Uint8Array;
  /** What the records' numbers of leases mean. */
  leases: readonly string[];
}>;

/** Of a flow that lasts. */
const endingUnknown = 255;
const [closedAt_at, protocol_at, ending_at, ports_at, lease_at, addresses_at] = [8, 16, 17, 18, 24, 32] as const;

/** Writes the row as the record that begins at `at`. */
export function writeFlowRecord(
  view: DataView,
  at: number,
  flow: Readonly<{
    rows: TupleRows;
    row: number;
    book: AddressBook;
    lease: number;
    openedAt: number;
    closedAt: number;
    /** By the index of `endings`. */
    ending: number;
  }>,
): void {
  const { rows, row } = flow;
  const protocol = rows.protocol[row]!;
  view.setFloat64(at, flow.openedAt);
  view.setFloat64(at + closedAt_at, flow.closedAt);
  view.setUint8(at + protocol_at, protocol);
  view.setUint8(at + ending_at, flow.ending);
  const ports = [rows.clientPort[row]!, rows.leasedPort[row]!, rows.remotePort[row]!];
  ports.forEach((port, index) => view.setUint16(at + ports_at + index * 2, port));
  view.setUint32(at + lease_at, flow.lease);
  const addresses = [rows.client[row]!, rows.leased[row]!, rows.remote[row]!];
  addresses.forEach((address, index) => {
    const to = at + addresses_at + index * 16;
    if (protocol < IPV6) view.setUint32(to, address);
    else if (address !== 0)
      for (let word = 0; word < 4; word++) view.setUint32(to + word * 4, flow.book.words[address * 4 + word]!);
  });
}

/** The same of a flow in words: `lease` is the place of its name. Ports and addresses that are null are any. */
export function writeFlowInWords(
  view: DataView,
  at: number,
  flow: Omit<FlowRecord, 'lease' | 'closedAt'> & Readonly<{ lease: number; closedAt: number }>,
): void {
  view.setFloat64(at, flow.openedAt);
  view.setFloat64(at + closedAt_at, flow.closedAt);
  view.setUint8(at + protocol_at, flowProtocol(flow.protocol, familyOf(flow.address)));
  view.setUint8(at + ending_at, flow.ending === null ? endingUnknown : recordedEndings.indexOf(flow.ending));
  view.setUint16(at + ports_at, flow.clientPort);
  view.setUint16(at + ports_at + 2, flow.port);
  view.setUint16(at + ports_at + 4, flow.remotePort ?? 0);
  view.setUint32(at + lease_at, flow.lease);
  [flow.client, flow.address, flow.remote].forEach((address, index) => {
    const bytes = new Uint8Array(view.buffer, view.byteOffset + at + addresses_at + index * 16, 16);
    bytes.fill(0);
    if (address !== null) bytes.set(addressToBytes(address));
  });
}

/** When the first of them opened, and the last one closed: µs since 1970. */
export function spanOf({ records }: Pick<FlowRecords, 'records'>): Readonly<{ opened: number; closed: number }> {
  const view = viewOf(records);
  let [opened, closed] = [Infinity, -Infinity];
  for (let at = 0; at < records.length; at += flowRecord_bytes) {
    opened = Math.min(opened, view.getFloat64(at));
    closed = Math.max(closed, view.getFloat64(at + closedAt_at));
  }
  return { opened, closed };
}

/**
 * Those of the records, the latest first and `max` at most, whose tuple this was at that instant, give or take `marginUs`, and
 * that closed at `closedSince` (µs) or after it.
 */
export function findFlowRecords(
  { records, leases }: FlowRecords,
  query: FlowQuery,
  o: Readonly<{ marginUs: number; closedSince: number; max: number }>,
): FlowRecord[] {
  const view = viewOf(records);
  const protocol = flowProtocol(query.protocol, familyOf(query.address));
  const leased = addressToBytes(query.address);
  const remote = query.remote === null ? null : addressToBytes(query.remote);
  const found: FlowRecord[] = [];
  for (let at = records.length - flowRecord_bytes; at >= 0 && found.length < o.max; at -= flowRecord_bytes) {
    if (view.getUint16(at + ports_at + 2) !== query.port || view.getUint8(at + protocol_at) !== protocol) continue;
    if (view.getFloat64(at) - o.marginUs > query.at) continue;
    const closedAt = view.getFloat64(at + closedAt_at);
    if (closedAt < o.closedSince || query.at > closedAt + o.marginUs) continue;
    if (!hasBytes(records, at + addresses_at + 16, leased)) continue;
    const isToward =
      remote === null || isZero(records, at + addresses_at + 32) || hasBytes(records, at + addresses_at + 32, remote);
    const port = view.getUint16(at + ports_at + 4);
    if (isToward && (query.remotePort === null || port === 0 || port === query.remotePort))
      found.push(readFlowRecord(view, at, leases));
  }
  return found;
}

/** The record that begins at `at`, in words. Throws where none does. */
export function readFlowRecord(view: DataView, at: number, leases: readonly string[]): FlowRecord {
  const number = view.getUint8(at + protocol_at);
  const protocol = protocolName(number);
  if (protocol === undefined) throw new Error(`a record of protocol ${number}`);
  const addressAt = (index: number): Address => {
    const from = at + addresses_at + index * 16;
    if (number < IPV6) return ipv4FromNumber(view.getUint32(from));
    return addressFromBigInt(6, (view.getBigUint64(from) << 64n) | view.getBigUint64(from + 8));
  };
  const isAny = view.getBigUint64(at + addresses_at + 32) === 0n && view.getBigUint64(at + addresses_at + 40) === 0n;
  const port = view.getUint16(at + ports_at + 4);
  return {
    lease: leases[view.getUint32(at + lease_at)] ?? '',
    protocol,
    client: addressAt(0),
    clientPort: view.getUint16(at + ports_at),
    address: addressAt(1),
    port: view.getUint16(at + ports_at + 2),
    remote: isAny ? null : addressAt(2),
    remotePort: port === 0 ? null : port,
    openedAt: view.getFloat64(at),
    closedAt: view.getFloat64(at + closedAt_at),
    ending: recordedEndings[view.getUint8(at + ending_at)] ?? null,
  };
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const hasBytes = (bytes: Uint8Array, at: number, wanted: Uint8Array): boolean =>
  wanted.every((byte, index) => bytes[at + index] === byte);
const isZero = (bytes: Uint8Array, at: number): boolean => bytes.subarray(at, at + 16).every((byte) => byte === 0);
