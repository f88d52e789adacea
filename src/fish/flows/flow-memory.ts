import { err, ok, type Result } from '../../net/result.ts';

/**
 * How many rows the tables have. `peersMax` is 0 where UDP filtering has no use for peers, `addressesMax` where no client has
 * an IPv6 address.
 */
export type MemorySizes = Readonly<{ flowsMax: number; blocksMax: number; peersMax: number; addressesMax: number }>;

export const sameSizes = (a: MemorySizes, b: MemorySizes): boolean =>
  a.flowsMax === b.flowsMax &&
  a.blocksMax === b.blocksMax &&
  a.peersMax === b.peersMax &&
  a.addressesMax === b.addressesMax;

/** The flows, as columns: row n of each is flow n. What they mean is said in `FlowTable`. Addresses are numbers: see `AddressBook`. */
export type FlowColumns = Readonly<{
  /** Milliseconds on the caller's clock. */
  openedMs: Float64Array;
  deadlineMs: Float64Array;
  client: Uint32Array;
  leased: Uint32Array;
  remote: Uint32Array;
  placeholder: Int32Array;
  clientPort: Uint16Array;
  leasedPort: Uint16Array;
  remotePort: Uint16Array;
  block: Uint16Array;
  protocol: Uint8Array;
  attached: Uint8Array;
  /** Written last when a flow begins, and first when it is gone: nothing else makes a row count. */
  state: Uint8Array;
}>;

/** Two rows a flow, the client's side and the remote's: see `TcpTracker`. */
export type TcpColumns = Readonly<{
  end: Uint32Array;
  limit: Uint32Array;
  awaits: Uint32Array;
  windowMax: Uint32Array;
  scale: Uint8Array;
  seen: Uint8Array;
}>;

/** See `UdpPeers`. */
export type PeerColumns = Readonly<{
  remote: Uint32Array;
  /** 0 where the filter does not look at it. */
  port: Uint16Array;
  /** The flow's number plus one; 0 for an entry that is not used. Written last. */
  owner: Uint32Array;
}>;

/** See `AddressBook`. */
export type AddressColumns = Readonly<{
  /** Four each; the first row is not used. */
  words: Uint32Array;
}>;

/** Longer names of leases are not remembered. The server's are a word and a number. */
export const leaseBytes_max = 128;

/** See `BlockTable`. */
export type BlockColumns = Readonly<{
  address: Uint32Array;
  firstPort: Uint16Array;
  lastPort: Uint16Array;
  /** As flows have it. */
  protocol: Uint8Array;
  /** EXCLUSIVE, SHARED_LATE or SHARED_EXPLICIT. */
  kind: Uint8Array;
  /** `leaseBytes_max` each, ASCII. */
  lease: Uint8Array;
  /** 0: there is no block in this slot. Written last. */
  leaseBytes: Uint8Array;
}>;

export type MemoryColumns = Readonly<{
  flows: FlowColumns;
  tcp: TcpColumns;
  peers: PeerColumns;
  blocks: BlockColumns;
  addresses: AddressColumns;
}>;

/** "fish", as a word of this machine: on a machine with the other byte order it is another number. */
const MAGIC = 0x66_69_73_68;
/** Rises with every change of the layout: who does not know it must not read it. */
const VERSION = 3;
const headerBytes = 64;
/** Words of the header. */
const AT = {
  magic: 0,
  version: 1,
  flowsMax: 2,
  blocksMax: 3,
  peersMax: 4,
  identity: 5,
  adoptions: 7,
  addressesMax: 8,
} as const;
/** Each column begins on a cache line of its own. */
const alignment_bytes = 64;

/**
 * Everything about flows and blocks that has to outlive the process, in one buffer: a header of 64 bytes (words: magic,
 * version, flows, blocks, peers, two of an identity, adoptions, addresses), then the columns one after the other, those of eight
 * bytes first. Indexes, timers and chains are not in it: they are made anew from the columns.
 *
 * A row counts only by one last write, that of a byte or word that is 0 in fresh memory. Whoever writes may be gone after
 * any of its stores; stores are carried out in the order of the program, and the memory keeps them all.
 */
export class FlowMemory {
  readonly sizes: MemorySizes;
  readonly columns: MemoryColumns;
  readonly buffer: ArrayBuffer;
  readonly #header: Uint32Array;

  private constructor(buffer: ArrayBuffer, sizes: MemorySizes, columns: MemoryColumns) {
    this.buffer = buffer;
    this.#header = headerOf(buffer);
    this.sizes = sizes;
    this.columns = columns;
  }

  static bytesFor(sizes: MemorySizes): number {
    return layOut(undefined, sizes).bytes;
  }

  /** Makes an empty table in a buffer of nothing but zeros. `identity`: 64 random bits that tell it from any other. */
  static format(buffer: ArrayBuffer, sizes: MemorySizes, identity: readonly [number, number]): FlowMemory {
    const { bytes, columns } = layOut(buffer, sizes);
    if (buffer.byteLength < bytes) throw new RangeError(`${buffer.byteLength} bytes; ${bytes} are needed`);
    const header = headerOf(buffer);
    header[AT.version] = VERSION;
    header[AT.flowsMax] = sizes.flowsMax;
    header[AT.blocksMax] = sizes.blocksMax;
    header[AT.peersMax] = sizes.peersMax;
    header[AT.addressesMax] = sizes.addressesMax;
    header.set(identity, AT.identity);
    header[AT.magic] = MAGIC;
    return new FlowMemory(buffer, sizes, columns);
  }

  /** What somebody else has made, who may be no more. The error says why it cannot be read, in one line. */
  static open(buffer: ArrayBuffer): Result<FlowMemory, string> {
    if (buffer.byteLength < headerBytes) return err(`a flow table of ${buffer.byteLength} bytes has no header`);
    const header = headerOf(buffer);
    if (header[AT.magic] !== MAGIC) return err('it is no flow table, or one that was never finished');
    if (header[AT.version] !== VERSION)
      return err(`its layout is version ${header[AT.version]}, and this is version ${VERSION}`);
    const [flowsMax = 0, blocksMax = 0, peersMax = 0] = header.subarray(AT.flowsMax, AT.peersMax + 1);
    const addressesMax = header[AT.addressesMax] ?? 0;
    const sizes = { flowsMax, blocksMax, peersMax, addressesMax };
    // As the settings have them; more could not be told apart in the columns either.
    const largest = Math.max(flowsMax, peersMax, addressesMax);
    if (flowsMax < 1 || largest > 2 ** 24 || blocksMax < 1 || blocksMax > 65_536)
      return err(
        `its header is damaged: ${flowsMax} flows, ${blocksMax} blocks, ${peersMax} peers, ${addressesMax} addresses`,
      );
    const bytes = FlowMemory.bytesFor(sizes);
    if (buffer.byteLength < bytes) return err(`it is cut off: ${buffer.byteLength} of ${bytes} bytes`);
    return ok(new FlowMemory(buffer, sizes, layOut(buffer, sizes).columns));
  }

  /** A table in memory of this thread alone. */
  static local(sizes: MemorySizes): FlowMemory {
    return FlowMemory.format(new ArrayBuffer(FlowMemory.bytesFor(sizes)), sizes, [0, 0]);
  }

  get identity(): readonly [number, number] {
    return [this.#header[AT.identity]!, this.#header[AT.identity + 1]!];
  }

  /** How many processes, or threads, have taken this table over from the one before. */
  get adoptions(): number {
    return this.#header[AT.adoptions]!;
  }

  countAdoption(): void {
    this.#header[AT.adoptions] = this.adoptions + 1;
  }

  /** The same table through other columns: tests look over the shoulder of whoever writes. */
  through(columns: MemoryColumns): FlowMemory {
    return new FlowMemory(this.buffer, this.sizes, columns);
  }
}

const headerOf = (buffer: ArrayBuffer): Uint32Array => new Uint32Array(buffer, 0, headerBytes / 4);

type Columns = { bytes: number; columns: MemoryColumns };

/** Without a buffer: only how many bytes it takes, with columns of length 0. */
function layOut(buffer: ArrayBuffer | undefined, sizes: MemorySizes): Columns {
  const { flowsMax, blocksMax, peersMax, addressesMax } = sizes;
  let bytes = headerBytes;
  const place = (count: number, bytesEach: number): readonly [ArrayBuffer, number, number] => {
    const at = bytes;
    bytes += Math.ceil((count * bytesEach) / alignment_bytes) * alignment_bytes;
    return buffer && bytes <= buffer.byteLength ? [buffer, at, count] : [nothing, 0, 0];
  };
  const doubles = (count: number) => new Float64Array(...place(count, 8));
  const words = (count: number) => new Uint32Array(...place(count, 4));
  const halves = (count: number) => new Uint16Array(...place(count, 2));
  const bytesOf = (count: number) => new Uint8Array(...place(count, 1));
  const flows = {
    openedMs: doubles(flowsMax),
    deadlineMs: doubles(flowsMax),
    client: words(flowsMax),
    leased: words(flowsMax),
    remote: words(flowsMax),
    placeholder: new Int32Array(...place(flowsMax, 4)),
    clientPort: halves(flowsMax),
    leasedPort: halves(flowsMax),
    remotePort: halves(flowsMax),
    block: halves(flowsMax),
    protocol: bytesOf(flowsMax),
    attached: bytesOf(flowsMax),
    state: bytesOf(flowsMax),
  };
  const tcp = {
    end: words(flowsMax * 2),
    limit: words(flowsMax * 2),
    awaits: words(flowsMax * 2),
    windowMax: words(flowsMax * 2),
    scale: bytesOf(flowsMax * 2),
    seen: bytesOf(flowsMax * 2),
  };
  const peers = { remote: words(peersMax), port: halves(peersMax), owner: words(peersMax) };
  const blocks = {
    address: words(blocksMax),
    firstPort: halves(blocksMax),
    lastPort: halves(blocksMax),
    protocol: bytesOf(blocksMax),
    kind: bytesOf(blocksMax),
    lease: bytesOf(blocksMax * leaseBytes_max),
    leaseBytes: bytesOf(blocksMax),
  };
  const addresses = { words: words(addressesMax === 0 ? 0 : (addressesMax + 1) * 4) };
  return { bytes, columns: { flows, tcp, peers, blocks, addresses } };
}

const nothing = new ArrayBuffer(0);
