import { IPV6 } from '../packet/packet.ts';

/**
 * Who counts as one client: an IPv4 address, or all IPv6 addresses with one prefix. Of IPv6 a host has as many addresses as it
 * likes; counted one by one, each of them would have a client's share.
 *
 * A prefix is a number of 32 bits, made of its bits and a seed: two prefixes of a thousand times a thousand might count as one,
 * and nobody can choose which.
 */
export class Subscribers {
  /** Of the address book: four a number. */
  readonly #words: Uint32Array;
  readonly #masks: Uint32Array;
  readonly #seed: number;

  constructor(words: Uint32Array, prefix6Bits: number, random: () => number) {
    this.#words = words;
    this.#masks = Uint32Array.from([0, 32, 64, 96], (from) => maskOf(Math.min(32, Math.max(0, prefix6Bits - from))));
    this.#seed = random() | 0;
  }

  /** The number under which a client is counted. */
  of(client: number, protocol: number): number {
    if (protocol < IPV6) return client;
    let hash = this.#seed;
    for (let word = 0; word < 4; word++) {
      // The book has four words for every number of a flow.
      hash = Math.imul(hash ^ (this.#words[client * 4 + word]! & this.#masks[word]!), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash >>> 0;
  }
}

/** So many ones, and zeros behind them. */
const maskOf = (bits: number): number => (bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0);
