/**
 * Addresses of packets whose flow is not known (yet), as words: one for IPv4, four for IPv6, and the rest 0. A family more or
 * less is told by the protocol (`familyOfProtocol`).
 */
export const addressWords_max = 4;

/** One round for each word of an address, and its end: constants of MurmurHash3 and of the golden ratio. */
export function hashAddress(view: DataView, at: number, bytes: number, seed: number): number {
  let hash = seed;
  for (let i = 0; i < bytes; i += 4) {
    hash = Math.imul(hash ^ view.getInt32(at + i), 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  }
  return hash ^ (hash >>> 13);
}

/** Copies the address to the words from `to` on. */
export function copyAddress(view: DataView, at: number, bytes: number, words: Uint32Array, to: number): void {
  for (let i = 0; i < addressWords_max; i++) words[to + i] = i * 4 < bytes ? view.getUint32(at + i * 4) : 0;
}

export function isSameAddress(view: DataView, at: number, bytes: number, words: Uint32Array, from: number): boolean {
  for (let i = 0; i * 4 < bytes; i++) if (words[from + i] !== view.getUint32(at + i * 4)) return false;
  return true;
}
