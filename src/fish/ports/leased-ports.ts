import type { PortRange } from '../../net/ports.ts';

type Ranges = Readonly<{ firsts: Uint16Array; lasts: Uint16Array }>;

/**
 * Which ports are leased, whatever flows use them: asked of packets that no flow is there for, which anybody can send as many of as
 * he likes. So a look-up is a search by halves in the blocks of one address. It is replaced whole when the blocks change.
 */
export class LeasedPorts {
  readonly #byProtocol = new Map<number, Map<number, Ranges>>();

  /** Blocks that do not overlap. `protocol` and `address`: the numbers that flows have. */
  constructor(blocks: readonly Readonly<{ protocol: number; address: number; ports: PortRange }>[]) {
    for (const [protocol, ofProtocol] of Map.groupBy(blocks, (block) => block.protocol)) {
      const byAddress = new Map<number, Ranges>();
      for (const [address, members] of Map.groupBy(ofProtocol, (block) => block.address)) {
        const ranges = members.map(({ ports }) => ports).toSorted((a, b) => a.first - b.first);
        byAddress.set(address | 0, {
          firsts: Uint16Array.from(ranges, ({ first }) => first),
          lasts: Uint16Array.from(ranges, ({ last }) => last),
        });
      }
      this.#byProtocol.set(protocol, byAddress);
    }
  }

  has(protocol: number, address: number, port: number): boolean {
    // With a sign, as the keys have it: beyond 31 bits a key to look for would be an object, made for each packet.
    const ranges = this.#byProtocol.get(protocol)?.get(address | 0);
    if (!ranges) return false;
    let [low, high] = [0, ranges.firsts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      // Between 0 and the last.
      if (ranges.firsts[middle]! <= port) low = middle;
      else high = middle - 1;
    }
    return ranges.firsts[low]! <= port && port <= ranges.lasts[low]!;
  }
}
