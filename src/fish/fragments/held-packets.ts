/** What most fragments need, virtio header included; a longer one takes several. */
const chunk_bytes = 2_048;
const NOTHING = -1;

/**
 * Packets that wait, as they came, in a store of fixed size: chunks, of which each packet has a chain. All memory is taken
 * at the start; storing and taking out allocate nothing.
 */
export class HeldPackets {
  readonly #bytes: Uint8Array;
  /** The next chunk of the same packet, or of those that are free. */
  readonly #next: Int32Array;
  /** Of the packet that begins in this chunk. */
  readonly #length: Uint32Array;
  #free = NOTHING;
  #freeCount: number;
  readonly capacity: number;

  constructor(bytesMax: number) {
    const capacity = Math.max(1, Math.floor(bytesMax / chunk_bytes));
    this.capacity = capacity;
    this.#bytes = new Uint8Array(capacity * chunk_bytes);
    this.#next = new Int32Array(capacity);
    this.#length = new Uint32Array(capacity);
    this.#freeCount = 0;
    for (let chunk = capacity - 1; chunk >= 0; chunk--) this.#letGo(chunk);
  }

  get freeChunks(): number {
    return this.#freeCount;
  }

  static chunksFor(bytes: number): number {
    return Math.ceil(bytes / chunk_bytes);
  }

  /** Keeps the first `length` bytes; under which number. There have to be as many free chunks as that takes. */
  put(buffer: Uint8Array, length: number): number {
    if (HeldPackets.chunksFor(length) > this.#freeCount) throw new Error('no room for a packet');
    const first = this.#free;
    let chunk = first;
    let last = first;
    for (let at = 0; at < length; at += chunk_bytes) {
      const base = chunk * chunk_bytes;
      const bytes = Math.min(chunk_bytes, length - at);
      // A loop, because a subarray to copy from would be a new object.
      for (let i = 0; i < bytes; i++) this.#bytes[base + i] = buffer[at + i]!;
      last = chunk;
      chunk = this.#next[chunk]!;
      this.#freeCount--;
    }
    this.#free = chunk;
    this.#next[last] = NOTHING;
    this.#length[first] = length;
    return first;
  }

  /** Writes the packet to the start of `buffer`, and keeps it no longer; its length. */
  take(packet: number, buffer: Uint8Array): number {
    const length = this.#length[packet]!;
    let chunk = packet;
    for (let at = 0; at < length; at += chunk_bytes) {
      const base = chunk * chunk_bytes;
      const bytes = Math.min(chunk_bytes, length - at);
      for (let i = 0; i < bytes; i++) buffer[at + i] = this.#bytes[base + i]!;
      chunk = this.#next[chunk]!;
    }
    this.drop(packet);
    return length;
  }

  drop(packet: number): void {
    let chunk = packet;
    while (chunk !== NOTHING) {
      const next = this.#next[chunk]!;
      this.#letGo(chunk);
      chunk = next;
    }
  }

  chunksOf(packet: number): number {
    return HeldPackets.chunksFor(this.#length[packet]!);
  }

  #letGo(chunk: number): void {
    this.#next[chunk] = this.#free;
    this.#free = chunk;
    this.#freeCount++;
  }
}
