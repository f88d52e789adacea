import { IPV6 } from '../packet/packet.ts';
import { SeededHash } from '../tables/seeded-hash.ts';

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
  readonly #hash: SeededHash;

  constructor(words: Uint32Array, prefix6Bits: number, random: () => number) {
    this.#words = words;
    this.#masks = Uint32Array.from([0, 32, 64, 96], (from) => maskOf(Math.min(32, Math.max(0, prefix6Bits - from))));
    this.#hash = new SeededHash(4, random);
  }

  /** The number under which a client is counted. */
  of(client: number, protocol: number): number {
    if (protocol < IPV6) return client;
    const at = client * 4;
    const words = this.#words;
    const masks = this.#masks;
    // The book has four words for every number of a flow.
    return this.#hash.of4(
      words[at]! & masks[0]!,
      words[at + 1]! & masks[1]!,
      words[at + 2]! & masks[2]!,
      words[at + 3]! & masks[3]!,
    );
  }
}

/** So many ones, and zeros behind them. */
const maskOf = (bits: number): number => (bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0);
