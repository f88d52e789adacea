import { addressToBytes, type Address } from '../../net/address.ts';
import { protocolNumber, type Protocol } from '../../net/protocol.ts';

/** Which packets to look at: those with all of these, before their translation or after it. */
export type TraceFilter = Readonly<{
  protocol?: Protocol;
  /** Either end: a client, a leased address or a remote. */
  addresses: readonly Address[];
  /** Either end; of TCP and UDP. */
  ports: readonly number[];
}>;

export type TraceRequest = Readonly<{
  filter: TraceFilter;
  packets_max: number;
  /** So much of each packet is kept. */
  snapBytes: number;
  forMs: number;
}>;

/** What became of one packet. `kind`: it came from the TUN, waited for a first fragment and leaves, or is fish's own. */
export type TracedPacket = Readonly<{
  kind: 'packet' | 'released' | 'reply';
  /** Milliseconds on fish's clock. */
  atMs: number;
  verdict: number;
  /** Of the whole packet. */
  bytes: number;
  before: Uint8Array | null;
  /** null where it goes no further. */
  after: Uint8Array | null;
}>;

const [TCP, UDP] = [6, 17];
/** Whoever has not come by then is gone. */
const patience_ms = 5_000;
const ipv6Header_bytes = 40;

/**
 * Writes down what happens to some packets, as long as somebody wants to know, and so many at most. It costs what copying
 * the beginning of each packet costs, so it is not there when nobody asks.
 */
export class PacketTrace {
  readonly #request: TraceRequest;
  readonly #until: number;
  readonly #headerBytes: number;
  readonly #addresses: readonly Uint8Array[];
  readonly #found: TracedPacket[] = [];
  #before: Uint8Array = new Uint8Array(0);

  /** `headerBytes`: of the virtio header in front of each packet. */
  constructor(request: TraceRequest, headerBytes: number, nowMs: number) {
    this.#request = request;
    this.#headerBytes = headerBytes;
    this.#until = nowMs + request.forMs;
    this.#addresses = request.filter.addresses.map((address) => addressToBytes(address));
  }

  /** As many as were wanted are found, or its time is over. */
  isOver(nowMs: number): boolean {
    return nowMs >= this.#until || this.#found.length >= this.#request.packets_max;
  }

  /** Whoever began it may still come for what was found. */
  isAwaited(nowMs: number): boolean {
    return nowMs < this.#until + patience_ms;
  }

  get found(): readonly TracedPacket[] {
    return this.#found;
  }

  before(buffer: Uint8Array, length: number): void {
    this.#before = this.#cut(buffer, length);
  }

  /** `forwarded`: it leaves as it is in the buffer now. */
  after(buffer: Uint8Array, length: number, verdict: number, forwarded: boolean, nowMs: number): void {
    const after = forwarded ? this.#cut(buffer, length) : null;
    this.#note('packet', this.#before, after, length, verdict, nowMs);
  }

  left(kind: 'released' | 'reply', buffer: Uint8Array, length: number, verdict: number, nowMs: number): void {
    this.#note(kind, null, this.#cut(buffer, length), length, verdict, nowMs);
  }

  #note(
    kind: TracedPacket['kind'],
    before: Uint8Array | null,
    after: Uint8Array | null,
    length: number,
    verdict: number,
    atMs: number,
  ): void {
    if (this.isOver(atMs) || ![before, after].some((bytes) => bytes !== null && this.#matches(bytes))) return;
    this.#found.push({ kind, atMs, verdict, bytes: length - this.#headerBytes, before, after });
  }

  #cut(buffer: Uint8Array, length: number): Uint8Array {
    const { snapBytes } = this.#request;
    return buffer.slice(this.#headerBytes, Math.min(length, this.#headerBytes + Math.max(snapBytes, 64)));
  }

  #matches(bytes: Uint8Array): boolean {
    const ends = endsOf(bytes);
    const { protocol, ports } = this.#request.filter;
    if (!ends) return false;
    if (protocol !== undefined && ends.protocol !== protocolNumber(protocol, ends.family)) return false;
    const isEnd = (address: Uint8Array) => isSame(ends.source, address) || isSame(ends.destination, address);
    return (
      this.#addresses.every(isEnd) && ports.every((port) => port === ends.sourcePort || port === ends.destinationPort)
    );
  }
}

export type PacketEnds = Readonly<{
  family: 4 | 6;
  protocol: number;
  source: Uint8Array;
  destination: Uint8Array;
  /** null: not the first fragment, or of a protocol without ports, or behind headers of IPv6. */
  sourcePort: number | null;
  destinationPort: number | null;
  /** Where the transport's header begins. */
  transport: number;
}>;

/** Who sends to whom, as far as the first bytes of a packet say; undefined when they do not. */
export function endsOf(bytes: Uint8Array): PacketEnds | undefined {
  const version = (bytes[0] ?? 0) >>> 4;
  const family = version === 4 ? 4 : version === 6 ? 6 : undefined;
  if (family === undefined || bytes.length < (family === 4 ? 20 : ipv6Header_bytes)) return undefined;
  const word = (at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  const protocol = bytes[family === 4 ? 9 : 6] ?? 0;
  const transport = family === 4 ? ((bytes[0] ?? 0) & 15) * 4 : ipv6Header_bytes;
  const isLater = family === 4 && (word(6) & 0x1fff) !== 0;
  const hasPorts = (protocol === TCP || protocol === UDP) && !isLater && bytes.length >= transport + 4;
  const [source, size] = family === 4 ? [12, 4] : [8, 16];
  return {
    ...{ family, protocol, transport },
    source: bytes.subarray(source, source + size),
    destination: bytes.subarray(source + size, source + size * 2),
    sourcePort: hasPorts ? word(transport) : null,
    destinationPort: hasPorts ? word(transport + 2) : null,
  };
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);
