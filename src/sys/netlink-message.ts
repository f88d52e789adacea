/**
 * The netlink wire format (netlink(7), RFC 3549), without a socket: messages and their attributes, written into one
 * growing buffer and read out of another. Integers are in host order, which is little-endian on both supported machines.
 */
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_EXCL = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_CREATE = 0x400;

const headerBytes = 16;
const attributeHeaderBytes = 4;
const NLA_F_NESTED = 0x8000;
const attributeTypeMask = 0x3fff;
const NLMSGERR_ATTR_MSG = 1;

/** An attribute's length is a 16-bit number; what grows larger must be split over several messages. */
export const attributeBytes_max = 65_535;
/** Of everything sent with one call: a bound against bugs, far above any transaction of ours. */
export const requestBytes_max = 16 * 1024 * 1024;

const aligned = (bytes: number): number => (bytes + 3) & ~3;
const text = new TextEncoder();

/** Writes messages one after the other; `reset()` starts a new request in the same memory. */
export class MessageWriter {
  /** The bytes of this request. */
  length = 0;
  /** The sequence numbers of the first and the last message of this request. */
  firstSequence = 1;
  sequence = 0;
  #buffer = new Uint8Array(new ArrayBuffer(4096));
  #view = new DataView(this.#buffer.buffer);
  #message = 0;

  /** The memory behind the request, valid until more is written. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  reset(): void {
    this.length = 0;
    // Long before they wrap around, so that the numbers of one request always rise.
    if (this.sequence > 0x7fff_ffff) this.sequence = 0;
    this.firstSequence = this.sequence + 1;
  }

  /** Begins a message; what follows belongs to it until the next one begins. Returns its sequence number. */
  begin(type: number, flags: number, body: Uint8Array): number {
    this.#message = this.length;
    this.sequence += 1;
    this.#reserve(headerBytes);
    this.#view.setUint16(this.length + 4, type, true);
    this.#view.setUint16(this.length + 6, flags, true);
    this.#view.setUint32(this.length + 8, this.sequence, true);
    this.#view.setUint32(this.length + 12, 0, true);
    this.length += headerBytes;
    this.#append(body);
    return this.sequence;
  }

  attribute(type: number, value: Uint8Array): void {
    this.#attributeHeader(type, attributeHeaderBytes + value.length);
    this.#append(value);
  }

  /** Zero-terminated, as the kernel's NLA_STRING wants it. */
  textAttribute(type: number, value: string): void {
    this.attribute(type, text.encode(`${value}\0`));
  }

  /** An unsigned 64-bit number in network order, from a number below 2^53. */
  networkU64Attribute(type: number, value: number): void {
    this.#attributeHeader(type, attributeHeaderBytes + 8);
    this.#reserve(8);
    this.#view.setUint32(this.length, Math.floor(value / 2 ** 32));
    this.#view.setUint32(this.length + 4, value >>> 0);
    this.length += 8;
    this.#stamp();
  }

  /** Opens a nested attribute and returns the mark that `close` wants. */
  open(type: number): number {
    const mark = this.length;
    this.#attributeHeader(type | NLA_F_NESTED, attributeHeaderBytes);
    return mark;
  }

  close(mark: number): void {
    const bytes = this.length - mark;
    if (bytes > attributeBytes_max) throw new RangeError(`a netlink attribute of ${bytes} bytes`);
    this.#view.setUint16(mark, bytes, true);
  }

  #attributeHeader(type: number, bytes: number): void {
    if (bytes > attributeBytes_max) throw new RangeError(`a netlink attribute of ${bytes} bytes`);
    this.#reserve(attributeHeaderBytes);
    this.#view.setUint16(this.length, bytes, true);
    this.#view.setUint16(this.length + 2, type, true);
    this.length += attributeHeaderBytes;
    this.#stamp();
  }

  #append(bytes: Uint8Array): void {
    const padded = aligned(bytes.length);
    this.#reserve(padded);
    this.#buffer.set(bytes, this.length);
    this.#buffer.fill(0, this.length + bytes.length, this.length + padded);
    this.length += padded;
    this.#stamp();
  }

  /** The length of the message so far into its header. */
  #stamp(): void {
    this.#view.setUint32(this.#message, this.length - this.#message, true);
  }

  #reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.#buffer.length) return;
    if (needed > requestBytes_max) throw new RangeError(`a netlink request of more than ${requestBytes_max} bytes`);
    const grown = new Uint8Array(
      new ArrayBuffer(Math.min(requestBytes_max, Math.max(needed, this.#buffer.length * 2))),
    );
    grown.set(this.#buffer.subarray(0, this.length));
    this.#buffer = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** One received message: its header, and where its payload lies. */
export type Message = Readonly<{ type: number; flags: number; sequence: number; from: number; to: number }>;

/** The messages in the first `length` bytes. A length that makes no sense ends the reading: nothing after it is known. */
export function* messagesIn(buffer: Uint8Array, length: number): Generator<Message, void> {
  const view = new DataView(buffer.buffer, buffer.byteOffset, length);
  for (let at = 0; at + headerBytes <= length;) {
    const bytes = view.getUint32(at, true);
    if (bytes < headerBytes || at + bytes > length) return;
    yield {
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      from: at + headerBytes,
      to: at + bytes,
    };
    at += aligned(bytes);
  }
}

/** Calls `visit(type, from, to)` for each attribute between two offsets; `from`-`to` is its value. */
export function eachAttribute(
  buffer: Uint8Array,
  from: number,
  to: number,
  visit: (type: number, from: number, to: number) => void,
): void {
  for (let at = from; at + attributeHeaderBytes <= to;) {
    const bytes = buffer[at]! | (buffer[at + 1]! << 8);
    if (bytes < attributeHeaderBytes || at + bytes > to) return;
    const type = (buffer[at + 2]! | (buffer[at + 3]! << 8)) & attributeTypeMask;
    visit(type, at + attributeHeaderBytes, at + bytes);
    at += aligned(bytes);
  }
}

/** What the kernel answered to one message; `errno` 0 is an acknowledgement. `text` is its extended acknowledgement. */
export type Acknowledgement = Readonly<{ errno: number; text: string }>;

/** Reads an NLMSG_ERROR, or the errno that an NLMSG_DONE carries. */
export function acknowledgementIn(buffer: Uint8Array, message: Message): Acknowledgement {
  const { type, flags, from, to } = message;
  if (to - from < 4) return { errno: 0, text: '' };
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  const errno = Math.abs(view.getInt32(from, true));
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' };
  // Between the number and the attributes stands the message it is about: all of it, or its header only when capped.
  let attributes = from + 4;
  if (type === NLMSG_ERROR)
    attributes += (flags & NLM_F_CAPPED) !== 0 ? headerBytes : aligned(view.getUint32(attributes, true));
  let words = '';
  eachAttribute(buffer, attributes, to, (attribute, start, end) => {
    if (attribute === NLMSGERR_ATTR_MSG)
      words = Buffer.from(buffer.subarray(start, end)).toString().replace(/\0.*$/s, '');
  });
  return { errno, text: words };
}
