import { kindCount, opaqueBytes, type Kind } from './protocol.ts';

/** What a keeper keeps: descriptors by kind and slot, with what was put beside them. Closing is `close`'s business. */
export class KeptTable {
  readonly #slots_max: number;
  readonly #close: (fd: number) => void;
  readonly #kinds = Array.from({ length: kindCount }, () => new Kept());
  #count = 0;

  constructor(slots_max: number, close: (fd: number) => void) {
    this.#slots_max = slots_max;
    this.#close = close;
  }

  get count(): number {
    return this.#count;
  }

  countsByKind(): readonly number[] {
    return this.#kinds.map((kept) => kept.count);
  }

  /** Whether there is such a kind, and such a slot of it. */
  has(kind: number, slot: number): kind is Kind {
    return kind < kindCount && slot < this.#slots_max;
  }

  put(kind: Kind, slot: number, record: Uint8Array, fd: number): void {
    const kept = this.#kinds[kind]!;
    this.drop(kind, slot);
    kept.fds[slot] = fd;
    kept.records[slot] = record.slice(0, opaqueBytes);
    kept.count++;
    this.#count++;
  }

  drop(kind: Kind, slot: number): void {
    const kept = this.#kinds[kind]!;
    const fd = kept.fds[slot];
    if (fd === undefined) return;
    kept.fds[slot] = undefined;
    kept.records[slot] = undefined;
    kept.count--;
    this.#count--;
    this.#close(fd);
  }

  /** The first so many at `from` or above, and where to go on; undefined when nothing is left. */
  page(kind: Kind, from: number, most: number): Readonly<{ found: readonly Found[]; next: number | undefined }> {
    const { fds, records } = this.#kinds[kind]!;
    const found: Found[] = [];
    for (let slot = from; slot < fds.length; slot++) {
      const [fd, record] = [fds[slot], records[slot]];
      if (fd === undefined || !record) continue;
      if (found.length === most) return { found, next: slot };
      found.push({ slot, fd, record });
    }
    return { found, next: undefined };
  }

  closeAll(): void {
    for (const [kind, { fds }] of this.#kinds.entries())
      for (let slot = 0; slot < fds.length; slot++) this.drop(kind as Kind, slot);
  }
}

export type Found = Readonly<{ slot: number; fd: number; record: Uint8Array }>;

class Kept {
  readonly fds: (number | undefined)[] = [];
  readonly records: (Uint8Array | undefined)[] = [];
  count = 0;
}
