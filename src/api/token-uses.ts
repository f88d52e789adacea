import type { Command } from '../leases/commands.ts';

/** Tokens that one command may name, and how many may wait for theirs: more are in use than anybody looks at one by one. */
const uses_per_command_max = 1_000;
const tokens_waiting_max = 100_000;

type NoteTokenUses = (command: Command<'noteTokenUses'>) => Promise<unknown>;

/**
 * When tokens were last used, kept in memory and written now and then: a row for each request would cost more than the
 * request itself.
 */
export class TokenUses {
  readonly #execute: NoteTokenUses;
  readonly #nowUs: () => number;
  #uses = new Map<number, number>();

  constructor(options: Readonly<{ execute: NoteTokenUses; nowUs: () => number }>) {
    this.#execute = options.execute;
    this.#nowUs = options.nowUs;
  }

  note(token: number): void {
    if (this.#uses.size < tokens_waiting_max || this.#uses.has(token)) this.#uses.set(token, this.#nowUs());
  }

  /** Writes what was noted since the last time. What cannot be written is lost: the next use tells again. */
  async flush(): Promise<void> {
    const uses = [...this.#uses];
    this.#uses = new Map();
    for (let first = 0; first < uses.length; first += uses_per_command_max) {
      const now = this.#nowUs();
      const some = uses.slice(first, first + uses_per_command_max);
      await this.#execute({
        kind: 'noteTokenUses',
        uses: some.map(([token, at]) => ({ token, agoUs: Math.max(0, now - at) })),
      });
    }
  }
}
