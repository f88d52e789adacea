import {
  eachAttribute,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  type Message,
  type MessageWriter,
} from './netlink-message.ts';

/** The messages of nftables about a table as a whole (include/uapi/linux/netfilter/nf_tables.h); no socket here. */
const subsystem = 10; // NFNL_SUBSYS_NFTABLES
const nft = (number: number): number => (subsystem << 8) | number;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const inet = 1;
const inetBody = Uint8Array.of(inet, 0, 0, 0);
const batchBody = Uint8Array.of(0, 0, 0, subsystem);

const msg = {
  newTable: nft(0),
  getTable: nft(1),
  delTable: nft(2),
  newChain: nft(3),
  getChain: nft(4),
  newRule: nft(6),
  getRule: nft(7),
  newSet: nft(9),
  getSet: nft(10),
  newObject: nft(18),
  getObject: nft(19),
};
/** The first attribute of every message, whatever it is about, is the name of the table (NFTA_TABLE_NAME and its like). */
const TABLE = 1;
const NFTA_TABLE_FLAGS = 2;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_TYPE = 7;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;
const NFTA_SET_NAME = 2;
const NFTA_OBJ_NAME = 2;
const NFTA_OBJ_TYPE = 3;
const NFTA_OBJ_DATA = 4;
const NFTA_OBJ_HANDLE = 6;
const NFT_OBJECT_COUNTER = 1;
const NFTA_COUNTER_BYTES = 1;
const NFTA_COUNTER_PACKETS = 2;
/** Name, flags, key type and length, data type and length, policy, timeout, handle. Not its size, which grows. */
const setAttributes: readonly number[] = [2, 3, 4, 5, 6, 7, 8, 11, 16];

/** What somebody changed: the kinds of things that a table has. */
export type NftChange = 'table' | 'chain' | 'rule' | 'set' | 'element' | 'object';
const changes: Readonly<Record<number, NftChange>> = Object.fromEntries(
  (
    [
      ['table', [0, 2]],
      ['chain', [3, 5]],
      ['rule', [6, 8]],
      ['set', [9, 11]],
      ['element', [12, 14]],
      ['object', [18, 20]],
    ] as const
  ).flatMap(([what, numbers]) => numbers.map((number) => [nft(number), what])),
);

const asText = (buffer: Uint8Array, from: number, to: number): string =>
  Buffer.from(buffer.subarray(from, to)).toString().replace(/\0.*$/s, '');

/** Which inet table a message is about; undefined for one that is about none. */
function tableOf(buffer: Uint8Array, { from, to }: Message): string | undefined {
  if (buffer[from] !== inet) return undefined;
  let name: string | undefined;
  eachAttribute(buffer, from + inetBody.length, to, (attribute, start, end) => {
    if (attribute === TABLE) name ??= asText(buffer, start, end);
  });
  return name;
}

/** Of an event: what of an inet table was changed; undefined for everything else. */
export function changedTable(
  buffer: Uint8Array,
  message: Message,
): Readonly<{ table: string; what: NftChange }> | undefined {
  const what = changes[message.type];
  const table = what === undefined ? undefined : tableOf(buffer, message);
  return what === undefined || table === undefined ? undefined : { table, what };
}

/** A dump in form, because only a dump's end is marked; one table at most answers. */
export function writeTableRequest(writer: MessageWriter, table: string): void {
  writer.begin(msg.getTable, NLM_F_REQUEST | NLM_F_ACK, inetBody);
  writer.textAttribute(TABLE, table);
}

export function readTableFlags(buffer: Uint8Array, message: Message): number | undefined {
  if (message.type !== msg.newTable) return undefined;
  let flags = 0;
  eachAttribute(buffer, message.from + inetBody.length, message.to, (attribute, start) => {
    if (attribute === NFTA_TABLE_FLAGS) flags = new DataView(buffer.buffer, buffer.byteOffset).getUint32(start);
  });
  return flags;
}

const dumpOf = (type: number) => (writer: MessageWriter, table: string) => {
  writer.begin(type, NLM_F_REQUEST | NLM_F_DUMP, inetBody);
  writer.textAttribute(TABLE, table);
};
export const writeChainDump = dumpOf(msg.getChain);
export const writeRuleDump = dumpOf(msg.getRule);
export const writeSetDump = dumpOf(msg.getSet);
export const writeObjectDump = dumpOf(msg.getObject);

/** The chains of all tables of all families. */
export function writeAllChainsDump(writer: MessageWriter): void {
  writer.begin(msg.getChain, NLM_F_REQUEST | NLM_F_DUMP, new Uint8Array(inetBody.length));
}

export type NftChain = Readonly<{
  table: string;
  isInet: boolean;
  name: string;
  /** `filter`, `nat`, `route`, and its hook's number and priority; undefined for one that only other chains lead to. */
  type: string | undefined;
  hook: number | undefined;
  priority: number | undefined;
}>;

export function readChain(buffer: Uint8Array, message: Message): NftChain | undefined {
  if (message.type !== msg.newChain) return undefined;
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  let [table, name] = ['', ''];
  let type: string | undefined;
  let hook: number | undefined;
  let priority: number | undefined;
  eachAttribute(buffer, message.from + inetBody.length, message.to, (attribute, start, end) => {
    if (attribute === TABLE) table = asText(buffer, start, end);
    if (attribute === NFTA_CHAIN_NAME) name = asText(buffer, start, end);
    if (attribute === NFTA_CHAIN_TYPE) type = asText(buffer, start, end);
    if (attribute === NFTA_CHAIN_HOOK)
      eachAttribute(buffer, start, end, (field, at) => {
        if (field === NFTA_HOOK_HOOKNUM) hook = view.getUint32(at);
        if (field === NFTA_HOOK_PRIORITY) priority = view.getInt32(at);
      });
  });
  return { table, isInet: buffer[message.from] === inet, name, type, hook, priority };
}

/** Of an event: whether it is about a chain, or a table with all its chains, whatever its family. */
export const changesChains = ({ type }: Message): boolean => chainEvents.includes(type);
const chainEvents: readonly number[] = [nft(0), msg.delTable, msg.newChain, nft(5)];

/** Of a chain, a rule or an object of this table: the bytes that stay as they are while nobody changes it. */
export function stablePart(buffer: Uint8Array, message: Message, table: string): Uint8Array | undefined {
  const { type, from, to } = message;
  if (tableOf(buffer, message) !== table) return undefined;
  if (type === msg.newChain || type === msg.newRule) return buffer.slice(from + inetBody.length, to);
  // A counter counts; its name, type and handle stay.
  return type === msg.newObject ? pieces(buffer, message, [NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_HANDLE]) : undefined;
}

export function readSet(
  buffer: Uint8Array,
  message: Message,
  table: string,
): Readonly<{ name: string; description: Uint8Array }> | undefined {
  if (message.type !== msg.newSet || tableOf(buffer, message) !== table) return undefined;
  let name = '';
  eachAttribute(buffer, message.from + inetBody.length, message.to, (attribute, start, end) => {
    if (attribute === NFTA_SET_NAME) name = asText(buffer, start, end);
  });
  return { name, description: pieces(buffer, message, setAttributes) };
}

function pieces(buffer: Uint8Array, message: Message, wanted: readonly number[]): Uint8Array {
  const parts: Uint8Array[] = [];
  eachAttribute(buffer, message.from + inetBody.length, message.to, (attribute, start, end) => {
    if (wanted.includes(attribute)) parts.push(Uint8Array.of(attribute), buffer.slice(start, end));
  });
  return Buffer.concat(parts);
}

export type NftCounter = Readonly<{ name: string; packets: number; bytes: number }>;

export function readCounter(buffer: Uint8Array, message: Message, table: string): NftCounter | undefined {
  if (message.type !== msg.newObject || tableOf(buffer, message) !== table) return undefined;
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  const counter = { name: '', packets: 0, bytes: 0 };
  let type = 0;
  eachAttribute(buffer, message.from + inetBody.length, message.to, (attribute, start, end) => {
    if (attribute === NFTA_OBJ_NAME) counter.name = asText(buffer, start, end);
    if (attribute === NFTA_OBJ_TYPE) type = view.getUint32(start);
    if (attribute === NFTA_OBJ_DATA)
      eachAttribute(buffer, start, end, (field, at) => {
        if (field === NFTA_COUNTER_PACKETS) counter.packets = Number(view.getBigUint64(at));
        if (field === NFTA_COUNTER_BYTES) counter.bytes = Number(view.getBigUint64(at));
      });
  });
  return type === NFT_OBJECT_COUNTER ? counter : undefined;
}

/** A transaction of its own; returns the sequence number to wait for. */
export function writeTableDeletion(writer: MessageWriter, table: string): number {
  writer.begin(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, batchBody);
  const sequence = writer.begin(msg.delTable, NLM_F_REQUEST | NLM_F_ACK, inetBody);
  writer.textAttribute(TABLE, table);
  writer.begin(NFNL_MSG_BATCH_END, NLM_F_REQUEST, batchBody);
  return sequence;
}
