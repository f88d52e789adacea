import { IPV6, type Packet } from '../packet/packet.ts';
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
    // The book has four words for every number of a flow.
    return this.#ofWords(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
  }

  /** The same for whoever has sent a packet, also if the book does not know the address. */
  ofSource({ protocol, source, view, sourceAt: at }: Packet): number {
    if (protocol < IPV6) return source;
    return this.#ofWords(view.getUint32(at), view.getUint32(at + 4), view.getUint32(at + 8), view.getUint32(at + 12));
  }

  #ofWords(first: number, second: number, third: number, fourth: number): number {
    const masks = this.#masks;
    return this.#hash.of4(first & masks[0]!, second & masks[1]!, third & masks[2]!, fourth & masks[3]!);
  }
}

/** So many ones, and zeros behind them. */
const maskOf = (bits: number): number => (bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0);
