import type { Feed } from '../feed/feed.ts';
import { isLostTo, type Epoch, type Event } from '../leases/model.ts';
import type { LeaseService } from '../leases/lease-service.ts';
import type { Reader } from '../leases/store.ts';
import { apiProblem, valueOf } from './problems.ts';

/** What clients present with every request: the epoch and the highest revision that they have seen. */
export const seenHeader = 'fishery-seen';

type EpochParts = Readonly<{
  reader: Pick<Reader, 'epoch' | 'epochs' | 'revision'>;
  leases: Pick<LeaseService, 'execute'>;
  feed: Pick<Feed, 'published'>;
  nowUs: () => number;
  newId: () => string;
}>;

/**
 * The epochs that the table was in, kept in memory, and what clients have seen held against them. A client that has seen
 * more than there is makes the server read-only before it is answered (see leases/epochs.ts).
 */
export class Epochs {
  readonly #parts: EpochParts;
  #all: readonly Epoch[] = [];
  /** Where the log stood at the start: until something happens the feed does not know. */
  #begun = 0;

  constructor(parts: EpochParts) {
    this.#parts = parts;
  }

  async load(): Promise<void> {
    this.#begun = await this.#parts.reader.revision();
    this.#all = await this.#parts.reader.epochs();
  }

  /** To be called with every event of the log. */
  follow(event: Event): void {
    if (event.kind !== 'epoch') return;
    const { epoch } = event;
    this.#all = [...this.#all.filter(({ number }) => number !== epoch.number), epoch];
  }

  get current(): Epoch {
    const last = this.#all.at(-1);
    if (!last) throw new Error('the epochs were never loaded');
    return last;
  }

  /** As far as this server knows the log goes. */
  get revision(): number {
    return Math.max(this.#begun, this.#parts.feed.published);
  }

  /** Whether a revision was given out by a table that this one lacks the end of. */
  isLost(revision: number): boolean {
    return this.#all.some((epoch) => isLostTo(epoch, revision));
  }

  /** Undefined when there is nothing to find out: what almost every request gets. `witness`: whose request it is. */
  weigh(seen: string, witness: () => string): Promise<void> | undefined {
    const end = seen.lastIndexOf('/');
    const epoch = seen.slice(0, end);
    const digits = seen.slice(end + 1);
    if (end < 1 || end > 200 || !/^\d{1,15}$/.test(digits)) throw malformed();
    const revision = Number(digits);
    if (epoch === this.current.id && revision <= this.revision) return undefined;
    if (this.#all.some(({ id, number }) => id === epoch && number !== this.current.number)) return undefined;
    return this.#lookAt(epoch, revision, witness());
  }

  /**
   * Has the store look whether it is still what it was: for what is not decided in a transaction, and yet must not be said
   * of a table that lost its end.
   */
  async isInDoubt(): Promise<boolean> {
    return (await this.#execute(this.current.id, 0, 'this server')).isInDoubt;
  }

  async #lookAt(epoch: string, revision: number, witness: string): Promise<void> {
    const { reader } = this.#parts;
    // Another server on the same database may be ahead of this one.
    if (epoch === this.current.id && revision <= (await reader.revision())) return;
    await this.#execute(epoch, revision, witness);
  }

  async #execute(epoch: string, revision: number, witness: string) {
    const { leases, newId, nowUs } = this.#parts;
    return valueOf(await leases.execute({ kind: 'weighSeen', epoch, revision, witness, newId: newId() }), nowUs());
  }
}

function malformed() {
  const path = `headers.${seenHeader}`;
  const message = 'must be an epoch and a revision, as the answer before had them: EPOCH/REVISION';
  return apiProblem('validation_failed', `${path}: ${message}`, { errors: [{ path, message }] });
}
