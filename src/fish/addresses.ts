import { ipv4ToNumber, type Address } from '../net/address.ts';
import { prefixBounds, type Prefix } from '../net/prefix.ts';

/**
 * Whether an IPv4 address can be one host's on a routed network. Not "this network" 0.0.0.0/8, loopback, link-local,
 * multicast, or 240.0.0.0/4, which ends in the broadcast address. Private and shared (100.64.0.0/10) space may be used.
 */
export function isRoutableUnicast(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224 && address >>> 16 !== 0xa9fe;
}

/** The IPv4 networks that clients come from. A handful: they are compared one by one, and only when a flow begins. */
export class PrefixList {
  readonly #networks: Uint32Array;
  readonly #masks: Uint32Array;

  constructor(prefixes: readonly Prefix[]) {
    const bounds = prefixes.map(prefixBounds);
    this.#networks = Uint32Array.from(bounds, (each) => Number(each.first));
    // 2^32 - count is the mask: a /24 counts 256 addresses and leaves 0xffffff00.
    this.#masks = Uint32Array.from(bounds, (each) => 2 ** 32 - Number(each.count));
  }

  contains(address: number): boolean {
    for (let i = 0; i < this.#networks.length; i++) {
      // i is below the length of both arrays, which is the same.
      if ((address & this.#masks[i]!) >>> 0 === this.#networks[i]!) return true;
    }
    return false;
  }
}

/**
 * The leased addresses, asked of every packet: an open-addressing hash set that is at most a quarter full. It is
 * replaced whole when the leases change, never edited. 0.0.0.0 marks an empty place and cannot be a member.
 */
export class AddressSet {
  readonly #places: Uint32Array;
  readonly #mask: number;

  constructor(addresses: readonly Address[]) {
    const size = 2 ** Math.max(4, Math.ceil(Math.log2(addresses.length * 4 + 1)));
    this.#places = new Uint32Array(size);
    this.#mask = size - 1;
    for (const address of addresses) {
      const number = ipv4ToNumber(address);
      this.#places[this.#placeOf(number)] = number;
    }
  }

  has(address: number): boolean {
    return address !== 0 && this.#places[this.#placeOf(address)] === address;
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
