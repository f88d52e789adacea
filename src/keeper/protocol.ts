/**
 * How one speaks with a keeper. Its socket is SOCK_SEQPACKET, so every message is whole; numbers are little-endian, as both
 * supported machines are. A message is a header of eight bytes and a body:
 *
 *     u8 op | u8 kind | u16 count | u32 value | body
 *
 *     op          kind, count, value                              body, and what goes beside it
 *     H hello     value: the version that is spoken               the first message of every connection; answered by S
 *     P put       kind; count of records, 1 to 253                count × record; count descriptors. Not answered
 *     D drop      kind; count of slots, 1 to 2,000                count × u32 slot. Not answered
 *     T take      kind; count at most; value: the slot to begin   answered by R, with descriptors
 *     L list      the same                                        answered by R, without descriptors
 *     S stats                                                     answered by S
 *     E end                                                       closes everything that is kept, then the keeper ends
 *     R records   kind; count; value: where to go on, or `noSlot` count × record, in the order of their slots
 *     S status                                                    see `KeeperStatus`
 *     X refusal   value: the reason, see `refusals`               the keeper closes this connection
 *
 * A record is a slot (u32) and 28 bytes that mean nothing to the keeper. What is put into a used slot replaces what was
 * there. Taking leaves it there. Slots of one kind have nothing to do with those of another. Messages of one connection are
 * carried out in their order, so an answered question means that everything before it is done.
 */
export const keeperVersion = 1;

export const op = {
  hello: 0x48,
  put: 0x50,
  drop: 0x44,
  take: 0x54,
  list: 0x4c,
  stats: 0x53,
  end: 0x45,
  records: 0x52,
  refusal: 0x58,
} as const;

/** Whose descriptors: each kind has its own slots, so that those who put them never meet. */
export const kinds = {
  /** One of each: the TUN, the flow table, links of eBPF programs. See `singletons`. */
  singleton: 0,
  /** Sockets that hold whole ports and echo identifiers. */
  bound: 1,
  /** Sockets that hold fish's 5-tuples. */
  flow: 2,
  spare: 3,
} as const;
export type Kind = (typeof kinds)[keyof typeof kinds];
export const kindCount = 4;

/** Slots of kind `singleton`; whoever adds one takes the next number. */
export const singletons = { tun: 0, flowTable: 1, steering: 16 } as const;

export const headerBytes = 8;
export const opaqueBytes = 28;
export const recordBytes = 4 + opaqueBytes;
/** As many descriptors as fit beside one message. */
export const recordsPerMessage_max = 253;
export const dropsPerMessage_max = 2_000;
export const messageBytes_max = headerBytes + recordsPerMessage_max * recordBytes;
export const noSlot = 0xffff_ffff;
/** At a time; one more is refused. */
export const connections_max = 16;
/** A keeper keeps no more than this, whatever its limit of open descriptors. */
export const kept_max = 1 << 20;
/** Descriptors that a keeper never fills: its own, those of its connections, and those of a message on its way in. */
export const reserved = 64 + recordsPerMessage_max;

/** Why a keeper closed a connection, by number. */
export const refusals = {
  1: 'it speaks another version',
  2: 'the message made no sense to it',
  3: 'descriptors were lost on the way (MSG_CTRUNC): its limit of open descriptors was reached',
  4: 'it is full',
  5: 'it has as many connections as it takes',
  6: 'this user may not',
} as const;
export type RefusalReason = keyof typeof refusals;

export type KeeperStatus = Readonly<{
  version: number;
  implementation: 'native' | 'typescript';
  pid: number;
  /** As many as it will keep, of all kinds together. */
  descriptors_max: number;
  /** Slots of each kind go from 0 to one less. */
  slots_max: number;
  connections: number;
  /** Kept now, by kind. */
  kept: readonly number[];
  /** Since it began; modulo 2^32. */
  puts: number;
  drops: number;
}>;

const statusWords = 8 + kindCount;
export const statusBytes = headerBytes + 4 * statusWords;

export function encodeStatus(status: KeeperStatus): Uint8Array {
  const bytes = new Uint8Array(statusBytes);
  bytes[0] = op.stats;
  const { version, implementation, pid, descriptors_max, slots_max, connections, kept, puts, drops } = status;
  const words = [
    ...[version, implementation === 'native' ? 0 : 1, pid, descriptors_max, slots_max, connections, puts, drops],
    ...kept,
  ];
  const view = new DataView(bytes.buffer);
  words.forEach((word, index) => view.setUint32(headerBytes + 4 * index, word, true));
  return bytes;
}

/** Of a message of `statusBytes` bytes. */
export function decodeStatus(message: Uint8Array): KeeperStatus {
  const view = new DataView(message.buffer, message.byteOffset + headerBytes, 4 * statusWords);
  const word = (index: number) => view.getUint32(4 * index, true);
  return {
    version: word(0),
    implementation: word(1) === 0 ? 'native' : 'typescript',
    pid: word(2),
    descriptors_max: word(3),
    slots_max: word(4),
    connections: word(5),
    puts: word(6),
    drops: word(7),
    kept: Array.from({ length: kindCount }, (_, kind) => word(8 + kind)),
  };
}

export function writeHeader(message: Uint8Array, operation: number, kind: number, count: number, value: number): void {
  message[0] = operation;
  message[1] = kind;
  message[2] = count & 0xff;
  message[3] = count >>> 8;
  writeWord(message, 4, value);
}

export function writeWord(message: Uint8Array, at: number, value: number): void {
  message[at] = value & 0xff;
  message[at + 1] = (value >>> 8) & 0xff;
  message[at + 2] = (value >>> 16) & 0xff;
  message[at + 3] = value >>> 24;
}

/** Beyond the message's end: 0. */
export const readWord = (message: Uint8Array, at: number): number =>
  ((message[at] ?? 0) |
    ((message[at + 1] ?? 0) << 8) |
    ((message[at + 2] ?? 0) << 16) |
    ((message[at + 3] ?? 0) << 24)) >>>
  0;

export const readCount = (message: Uint8Array): number => (message[2] ?? 0) | ((message[3] ?? 0) << 8);
