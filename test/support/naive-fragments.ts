import { cutKeyOf, pieceOf, renumbered, resummed } from './cut-packets.ts';
import { addressBytes } from './packets.ts';
import { isIPv6Packet } from './packets6.ts';

/** What the first fragment's translation does to one side of a packet. */
export type Way = Readonly<{ side: 'source' | 'destination'; address: string }>;

type Cut = {
  since: number;
  /** Offsets of all bytes that were there. */
  seen: Set<number>;
  reach: number;
  total: number | undefined;
  pieces: number;
  waiting: Uint8Array[];
  /** Once the first fragment has been let through. */
  way: (Way & { identification: number }) | undefined;
  /** Why nothing of it passes. */
  reason: string | undefined;
};

export type PieceVerdict =
  | Readonly<{ verdict: 'first' }>
  | Readonly<{ verdict: 'held' }>
  | Readonly<{ verdict: 'follows'; bytes: Uint8Array }>
  | Readonly<{ verdict: 'dropped'; reason: string }>;

const timeout_s = 30;
const pieces_max = 128;

/** What is to become of fragments, byte by byte and without any bound on memory. Time is in seconds. */
export class NaiveFragments {
  readonly #cuts = new Map<string, Cut>();
  /** Fragments that waited and were dropped, by reason. */
  readonly dropped: string[] = [];

  get packets(): number {
    return this.#cuts.size;
  }

  get held(): number {
    return [...this.#cuts.values()].reduce((sum, cut) => sum + cut.waiting.length, 0);
  }

  take(piece: Uint8Array, direction: string, nowS: number): PieceVerdict {
    this.expire(nowS);
    const { offset, bytes, hasMore } = pieceOf(piece);
    const key = `${direction} ${cutKeyOf(piece)}`;
    if (offset === 0 && this.#cuts.get(key)?.reason === 'fragment_refused') this.#cuts.delete(key);
    const cut = this.#cuts.get(key) ?? begun(nowS);
    this.#cuts.set(key, cut);
    if (cut.reason !== undefined) return { verdict: 'dropped', reason: cut.reason };
    const problem = problemOf(cut, offset, bytes, hasMore);
    if (problem === 'fragment_duplicate') return { verdict: 'dropped', reason: problem };
    if (problem !== undefined) {
      this.#refuse(cut, problem);
      return { verdict: 'dropped', reason: problem };
    }
    for (let i = 0; i < bytes; i++) cut.seen.add(offset + i);
    cut.pieces++;
    cut.reach = Math.max(cut.reach, offset + bytes);
    if (!hasMore) cut.total = offset + bytes;
    if (offset === 0) return { verdict: 'first' };
    if (!cut.way) {
      cut.waiting.push(Uint8Array.from(piece));
      return { verdict: 'held' };
    }
    const follows = followed(piece, cut.way);
    this.#forgetIfWhole(key, cut);
    return { verdict: 'follows', bytes: follows };
  }

  /** The first fragment went this way, with this number; what leaves behind it. */
  admit(first: Uint8Array, direction: string, way: Way, identification: number): Uint8Array[] {
    const key = `${direction} ${cutKeyOf(first)}`;
    const cut = this.#cuts.get(key)!;
    cut.way = { ...way, identification };
    const behind = cut.waiting.map((piece) => followed(piece, cut.way!));
    cut.waiting = [];
    this.#forgetIfWhole(key, cut);
    return behind;
  }

  refuse(first: Uint8Array, direction: string): void {
    this.#refuse(this.#cuts.get(`${direction} ${cutKeyOf(first)}`)!, 'fragment_refused');
  }

  expire(nowS: number): void {
    for (const [key, cut] of this.#cuts) {
      if (nowS - cut.since < timeout_s) continue;
      this.dropped.push(...cut.waiting.map(() => 'fragment_timeout'));
      this.#cuts.delete(key);
    }
  }

  /** A block is gone: nothing follows what has left from it. */
  forgetTranslated(): void {
    for (const [key, cut] of this.#cuts) if (cut.way) this.#cuts.delete(key);
  }

  /** Fish was started anew: it remembers no fragment. */
  clear(): void {
    this.#cuts.clear();
    this.dropped.length = 0;
  }

  #refuse(cut: Cut, reason: string): void {
    this.dropped.push(...cut.waiting.map(() => reason));
    cut.waiting = [];
    cut.way = undefined;
    cut.reason = reason;
  }

  #forgetIfWhole(key: string, cut: Cut): void {
    if (cut.seen.size === cut.total) this.#cuts.delete(key);
  }
}

const begun = (nowS: number): Cut => ({
  since: nowS,
  seen: new Set(),
  reach: 0,
  total: undefined,
  pieces: 0,
  waiting: [],
  way: undefined,
  reason: undefined,
});

function problemOf(cut: Cut, offset: number, bytes: number, hasMore: boolean): string | undefined {
  const end = offset + bytes;
  if (!hasMore && (cut.total ?? end) !== end) return 'fragment_overlap';
  if (!hasMore && end < cut.reach) return 'fragment_overlap';
  if (hasMore && cut.total !== undefined && end >= cut.total) return 'fragment_overlap';
  const again = Array.from({ length: bytes }, (_, i) => cut.seen.has(offset + i)).filter(Boolean).length;
  if (again === bytes) return 'fragment_duplicate';
  if (again > 0) return 'fragment_overlap';
  return cut.pieces === pieces_max ? 'fragment_too_many' : undefined;
}

function followed(piece: Uint8Array, way: Way & { identification: number }): Uint8Array {
  const bytes = Uint8Array.from(piece);
  const [sourceAt, destinationAt] = isIPv6Packet(piece) ? [8, 24] : [12, 16];
  bytes.set(addressBytes(way.address), way.side === 'source' ? sourceAt : destinationAt);
  return resummed(renumbered(bytes, way.identification));
}
