/** How far somebody has followed the log of a table: what a client presents with every request. */
export type LogPosition = Readonly<{ epoch: string; revision: number }>;

/**
 * The highest revision that the server told, in the epoch that it said it was in. A server that is shown more than it has
 * was restored from a backup, and stops granting before it gives a port away twice.
 */
export class SeenByUs {
  #seen: LogPosition | undefined;

  get latest(): LogPosition | undefined {
    return this.#seen;
  }

  /** What the headers of an answer say; those of a proxy, or of an answer to a stranger, say nothing. */
  note(headers: Headers): void {
    const epoch = headers.get('fishery-epoch');
    const revision = Number(headers.get('fishery-revision') ?? NaN);
    if (epoch === null || !Number.isSafeInteger(revision)) return;
    // Another epoch: what was seen of the former one has been weighed by now, and its revisions count for nothing here.
    this.#seen = { epoch, revision: this.#seen?.epoch === epoch ? Math.max(this.#seen.revision, revision) : revision };
  }

  /** A revision that came by a stream: of the epoch that was told last. */
  reach(revision: number): void {
    if (this.#seen && revision > this.#seen.revision) this.#seen = { epoch: this.#seen.epoch, revision };
  }

  get header(): Readonly<Record<string, string>> {
    return this.#seen ? { 'fishery-seen': `${this.#seen.epoch}/${this.#seen.revision}` } : {};
  }
}
