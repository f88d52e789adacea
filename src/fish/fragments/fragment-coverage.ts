import { fragmentUnit_bytes, type Packet } from '../packet/packet.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/** A packet of 64 KiB, cut so small that each piece fits where nothing but 576 bytes has to, makes 119. */
export const fragmentsPerPacket_max = 128;

const unitsPerWord = 32;
/** Words of a map with a bit for each eight bytes of 64 KiB. */
const mapWords = 65_536 / fragmentUnit_bytes / unitsPerWord;

/**
 * Which bytes of each packet have been there, as maps of bits. What overlaps is somebody's attempt to have one host see another
 * packet than the next, so nothing more of such a packet passes (RFC 5722, RFC 8200 4.5). What was there before, all of
 * it, may be an accident of the network, and is only dropped itself.
 */
export class FragmentCoverage {
  readonly #map: Uint32Array;
  readonly #units: Uint16Array;
  readonly #pieces: Uint16Array;
  /** How far any of the fragments reaches, in bytes. */
  readonly #reach: Uint32Array;
  /** How long the whole is, once the last fragment has told; 0 before. */
  readonly #total: Uint32Array;

  constructor(packetsMax: number) {
    this.#map = new Uint32Array(packetsMax * mapWords);
    this.#units = new Uint16Array(packetsMax);
    this.#pieces = new Uint16Array(packetsMax);
    this.#reach = new Uint32Array(packetsMax);
    this.#total = new Uint32Array(packetsMax);
  }

  clear(row: number): void {
    this.#map.fill(0, row * mapWords, (row + 1) * mapWords);
    this.#units[row] = 0;
    this.#pieces[row] = 0;
    this.#reach[row] = 0;
    this.#total[row] = 0;
  }

  /** FORWARD, and it counts as seen; or why it must not be. */
  add(row: number, packet: Packet): number {
    const from = packet.fragmentOffset;
    const to = from + (packet.end - packet.payloadAt);
    if (this.#contradicts(row, to, packet.hasMoreFragments)) return DROP.fragment_overlap;
    const firstUnit = from / fragmentUnit_bytes;
    const units = Math.ceil((to - from) / fragmentUnit_bytes);
    const seen = this.#seenOf(row, firstUnit, units);
    if (seen === units) return DROP.fragment_duplicate;
    if (seen !== 0) return DROP.fragment_overlap;
    if (this.#pieces[row] === fragmentsPerPacket_max) return DROP.fragment_too_many;
    this.#mark(row, firstUnit, units);
    this.#pieces[row] = this.#pieces[row]! + 1;
    this.#units[row] = this.#units[row]! + units;
    this.#reach[row] = Math.max(this.#reach[row]!, to);
    if (!packet.hasMoreFragments) this.#total[row] = to;
    return FORWARD;
  }

  isWhole(row: number): boolean {
    const total = this.#total[row]!;
    return total !== 0 && this.#units[row] === Math.ceil(total / fragmentUnit_bytes);
  }

  /** Bytes of the whole, once the last fragment was seen. */
  totalOf(row: number): number {
    return this.#total[row]!;
  }

  #contradicts(row: number, to: number, hasMore: boolean): boolean {
    const total = this.#total[row]!;
    if (!hasMore) return total === 0 ? to < this.#reach[row]! : to !== total;
    return total !== 0 && to >= total;
  }

  #seenOf(row: number, firstUnit: number, units: number): number {
    let seen = 0;
    for (let unit = firstUnit; unit < firstUnit + units; unit++) {
      const word = this.#map[row * mapWords + (unit >>> 5)]!;
      seen += (word >>> (unit & 31)) & 1;
    }
    return seen;
  }

  #mark(row: number, firstUnit: number, units: number): void {
    for (let unit = firstUnit; unit < firstUnit + units; unit++) {
      const at = row * mapWords + (unit >>> 5);
      this.#map[at] = this.#map[at]! | (1 << (unit & 31));
    }
  }
}
