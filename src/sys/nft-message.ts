import {
  attributeBytes_max,
  eachAttribute,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  type Message,
  type MessageWriter,
} from './netlink-message.ts';

/** The messages of nftables (include/uapi/linux/netfilter/nf_tables.h) about the elements of sets; no socket here. */
const subsystem = 10; // NFNL_SUBSYS_NFTABLES
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const NFT_MSG_NEWSETELEM = (subsystem << 8) | 12;
const NFT_MSG_GETSETELEM = (subsystem << 8) | 13;
const NFT_MSG_DELSETELEM = (subsystem << 8) | 14;
const NFT_MSG_DESTROYSETELEM = (subsystem << 8) | 30; // Linux 6.3: deletes, and does not mind what is missing

const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_TIMEOUT = 4;
const NFTA_SET_ELEM_EXPIRATION = 5;
const NFTA_DATA_VALUE = 1;

/** struct nfgenmsg: family, version, resource. A batch names its subsystem as the resource, in network order. */
const batchBody = Uint8Array.of(0, 0, 0, subsystem);
const inetBody = Uint8Array.of(1, 0, 0, 0);

/** NFT_DATA_VALUE_MAXLEN. */
export const keyBytes_max = 64;
/** An element's attributes around its key: five headers and two 64-bit numbers. */
const elementOverheadBytes = 5 * 4 + 2 * 8;

/**
 * One thing to do in a transaction. `add` leaves elements that exist alone, but takes away the timeout of one that has
 * it. `remove` fails the transaction with ENOENT when an element is missing, `discard` does not mind.
 */
export type ElementChange = Readonly<
  | { change: 'add' | 'remove' | 'discard'; set: string; keys: readonly Uint8Array[] }
  | { change: 'renew'; set: string; key: Uint8Array; timeoutMs: number }
>;

/** An element as the kernel has it; without a timeout it is permanent. */
export type NftElement = Readonly<{ key: Uint8Array; timeoutMs?: number; expiresMs?: number }>;

/** Where the elements are: a set of a table of family inet. */
type Place = Readonly<{ table: string; set: string }>;

/** Writes one batch, which the kernel carries out whole or not at all. Returns the sequence numbers to wait for. */
export function writeTransaction(writer: MessageWriter, table: string, changes: readonly ElementChange[]): number[] {
  writer.begin(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, batchBody);
  const expected = changes.flatMap((change) => writeChange(writer, table, change));
  writer.begin(NFNL_MSG_BATCH_END, NLM_F_REQUEST, batchBody);
  return expected;
}

/** Asks for all elements of a set; `readElements` reads the answer. */
export function writeElementsDump(writer: MessageWriter, place: Place): void {
  beginElements(writer, NFT_MSG_GETSETELEM, NLM_F_DUMP, place);
}

function writeChange(writer: MessageWriter, table: string, change: ElementChange): number[] {
  const place = { table, set: change.set };
  switch (change.change) {
    case 'add':
      return writeKeys(writer, NFT_MSG_NEWSETELEM, place, change.keys);
    case 'remove':
      return writeKeys(writer, NFT_MSG_DELSETELEM, place, change.keys);
    case 'discard':
      return writeKeys(writer, NFT_MSG_DESTROYSETELEM, place, change.keys);
    case 'renew': {
      const { key, timeoutMs } = change;
      // 0 would be "never": a dead man's switch that is stuck.
      if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1) throw new RangeError(`a timeout of ${timeoutMs} ms`);
      // Adding alone updates an element only from Linux 6.12 on (before, it is silently left to expire), and there only
      // when the expiration is given besides the timeout. Replacing it in one transaction works everywhere, and no
      // packet finds it missing.
      return [
        ...writeKeys(writer, NFT_MSG_DESTROYSETELEM, place, [key]),
        ...writeKeys(writer, NFT_MSG_NEWSETELEM, place, [key], timeoutMs),
      ];
    }
  }
}

/** Writes as many messages as the keys need, because their list is one attribute; returns what to wait for. */
function writeKeys(
  writer: MessageWriter,
  type: number,
  place: Place,
  keys: readonly Uint8Array[],
  timeoutMs?: number,
): number[] {
  const sequences: number[] = [];
  for (let next = 0; next < keys.length;) {
    sequences.push(beginElements(writer, type, NLM_F_ACK | (type === NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0), place));
    const list = writer.open(NFTA_SET_ELEM_LIST_ELEMENTS);
    const full = list + attributeBytes_max - keyBytes_max - elementOverheadBytes;
    for (; next < keys.length && writer.length < full; next++) writeElement(writer, keys[next]!, timeoutMs);
    writer.close(list);
  }
  return sequences;
}

function beginElements(writer: MessageWriter, type: number, flags: number, { table, set }: Place): number {
  const sequence = writer.begin(type, NLM_F_REQUEST | flags, inetBody);
  writer.textAttribute(NFTA_SET_ELEM_LIST_TABLE, table);
  writer.textAttribute(NFTA_SET_ELEM_LIST_SET, set);
  return sequence;
}

function writeElement(writer: MessageWriter, key: Uint8Array, timeoutMs: number | undefined): void {
  if (key.length === 0 || key.length > keyBytes_max) throw new RangeError(`a key of ${key.length} bytes`);
  const element = writer.open(NFTA_LIST_ELEM);
  const outer = writer.open(NFTA_SET_ELEM_KEY);
  writer.attribute(NFTA_DATA_VALUE, key);
  writer.close(outer);
  if (timeoutMs !== undefined) {
    writer.networkU64Attribute(NFTA_SET_ELEM_TIMEOUT, timeoutMs);
    writer.networkU64Attribute(NFTA_SET_ELEM_EXPIRATION, timeoutMs);
  }
  writer.close(element);
}

/** Appends the elements of one message of a dump. */
export function readElements(buffer: Uint8Array, message: Message, into: NftElement[]): void {
  if (message.type !== NFT_MSG_NEWSETELEM) return;
  eachAttribute(buffer, message.from + inetBody.length, message.to, (type, start, end) => {
    if (type !== NFTA_SET_ELEM_LIST_ELEMENTS) return;
    eachAttribute(buffer, start, end, (_, elementStart, elementEnd) => {
      const element: { key?: Uint8Array; timeoutMs?: number; expiresMs?: number } = {};
      eachAttribute(buffer, elementStart, elementEnd, (field, valueStart, valueEnd) => {
        if (field === NFTA_SET_ELEM_KEY)
          eachAttribute(buffer, valueStart, valueEnd, (data, keyStart, keyEnd) => {
            if (data === NFTA_DATA_VALUE) element.key = buffer.slice(keyStart, keyEnd);
          });
        if (field === NFTA_SET_ELEM_TIMEOUT) element.timeoutMs = networkU64(buffer, valueStart);
        if (field === NFTA_SET_ELEM_EXPIRATION) element.expiresMs = networkU64(buffer, valueStart);
      });
      // An element without a key is the set's catch-all.
      if (element.key) into.push({ ...element, key: element.key });
    });
  });
}

function networkU64(buffer: Uint8Array, at: number): number {
  const view = new DataView(buffer.buffer, buffer.byteOffset + at);
  return view.getUint32(0) * 2 ** 32 + view.getUint32(4);
}

/**
 * The key of a concatenated set (`ipv4_addr . inet_proto . inet_service`): every field padded with zeros to a multiple
 * of 4 bytes. Addresses, protocols and ports are in network order; marks and user ids in host order (`hostOrder32`).
 */
export function concatKey(...fields: Uint8Array[]): Uint8Array {
  const padded = (field: Uint8Array) => (field.length + 3) & ~3;
  const key = new Uint8Array(fields.reduce((sum, field) => sum + padded(field), 0));
  let at = 0;
  for (const field of fields) {
    key.set(field, at);
    at += padded(field);
  }
  return key;
}

/** A field of type inet_service: a port, or a port with the bits inside its block masked away. */
export const portField = (port: number): Uint8Array => Uint8Array.of(port >>> 8, port);

/** A field of type inet_proto: an IP protocol number. */
export const protocolField = (number: number): Uint8Array => Uint8Array.of(number);

/** A field of type mark or uid, which the kernel compares in host order. */
export const hostOrder32 = (value: number): Uint8Array => Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
