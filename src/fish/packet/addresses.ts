import { prefixBounds, prefixFamily, type Prefix } from '../../net/prefix.ts';

/**
 * Whether an IPv4 address can be one host's on a routed network. Not "this network" 0.0.0.0/8, loopback, link-local,
 * multicast, or 240.0.0.0/4, which ends in the broadcast address. Private and shared (100.64.0.0/10) space may be used.
 */
export function isRoutableUnicast(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224 && address >>> 16 !== 0xa9fe;
}

/**
 * The same of an IPv6 address, by its first 32 bits and the next. Not link-local (fe80::/10), multicast (ff00::/8), or what
 * begins with a byte of zeros: unspecified, loopback, IPv4-mapped and -compatible (RFC 4291), but for the prefix by which
 * IPv4 is reached over IPv6 (64:ff9b::/96, RFC 6052). Unique local addresses (fc00::/7) may be used.
 */
export function isRoutableUnicast6(first: number, second: number): boolean {
  const top = first >>> 24;
  if (top === 0) return first === 0x64ff9b && second === 0;
  return top !== 0xff && first >>> 22 !== 0x3fa;
}

const WORDS = [0, 1, 2, 3] as const;
const wordsOf = (value: bigint): number[] => WORDS.map((i) => Number((value >> BigInt(96 - 32 * i)) & 0xffff_ffffn));

/** The networks that clients come from. A handful: they are compared one by one. */
export class PrefixList {
  readonly #networks: Uint32Array;
  readonly #masks: Uint32Array;
  /** Four words each. */
  readonly #networks6: Uint32Array;
  readonly #masks6: Uint32Array;

  constructor(prefixes: readonly Prefix[]) {
    const bounds = prefixes.filter((prefix) => prefixFamily(prefix) === 4).map(prefixBounds);
    this.#networks = Uint32Array.from(bounds, (each) => Number(each.first));
    // 2^32 - count is the mask: a /24 counts 256 addresses and leaves 0xffffff00.
    this.#masks = Uint32Array.from(bounds, (each) => 2 ** 32 - Number(each.count));
    const bounds6 = prefixes.filter((prefix) => prefixFamily(prefix) === 6).map(prefixBounds);
    this.#networks6 = Uint32Array.from(bounds6.flatMap((each) => wordsOf(each.first)));
    this.#masks6 = Uint32Array.from(bounds6.flatMap((each) => wordsOf(2n ** 128n - each.count)));
  }

  contains(address: number): boolean {
    for (let i = 0; i < this.#networks.length; i++) {
      // i is below the length of both arrays, which is the same.
      if ((address & this.#masks[i]!) >>> 0 === this.#networks[i]!) return true;
    }
    return false;
  }

  /** Of an IPv6 address: four words, most significant first. */
  contains6(first: number, second: number, third: number, fourth: number): boolean {
    const networks = this.#networks6;
    const masks = this.#masks6;
    for (let i = 0; i < networks.length; i += 4) {
      // Both arrays have four words for each prefix.
      if (
        (first & masks[i]!) >>> 0 === networks[i]! &&
        (second & masks[i + 1]!) >>> 0 === networks[i + 1]! &&
        (third & masks[i + 2]!) >>> 0 === networks[i + 2]! &&
        (fourth & masks[i + 3]!) >>> 0 === networks[i + 3]!
      )
        return true;
    }
    return false;
  }
}

/**
 * The leased addresses of one family by their numbers, asked of every packet: an open-addressing hash set that is at most a
 * quarter full. It is replaced whole when the leases change, never edited. 0 marks an empty place and cannot be a member. With or
 * without a sign, the 32 bits are the same address.
 */
export class AddressSet {
  readonly #places: Int32Array;
  readonly #mask: number;

  constructor(numbers: readonly number[]) {
    const size = 2 ** Math.max(4, Math.ceil(Math.log2(numbers.length * 4 + 1)));
    this.#places = new Int32Array(size);
    this.#mask = size - 1;
    for (const number of numbers) this.#places[this.#placeOf(number | 0)] = number;
  }

  has(address: number): boolean {
    const bits = address | 0;
    return bits !== 0 && this.#places[this.#placeOf(bits)] === bits;
  }

  /** The place that holds the address, or the empty one where it would go: there always is one. */
  #placeOf(address: number): number {
    let place = Math.imul(address ^ (address >>> 16), 0x9e3779b1) >>> 8;
    for (;;) {
      place &= this.#mask;
      const found = this.#places[place];
      if (found === 0 || found === address) return place;
      place++;
    }
  }
}
