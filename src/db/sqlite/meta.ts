import type Database from 'better-sqlite3';
import type { Connection } from './statements.ts';

/** What the database says of itself: its identity, and whether whoever had it open last has closed it. */
export class Meta {
  readonly #get: Database.Statement<[string], { value: string }>;
  readonly #set: Database.Statement<[string, string]>;

  constructor(connection: Connection) {
    this.#get = connection.prepare('SELECT value FROM meta WHERE key = ?');
    this.#set = connection.prepare(
      'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    );
  }

  /** Who this table is: another epoch is another table, whatever its revisions say. */
  epoch(make: () => string): string {
    return this.#kept('epoch', make);
  }

  /** The part of it that tokens carry. */
  allocatorEpoch(): number {
    return Number(this.#kept('allocator_epoch', () => '1'));
  }

  /** Makes the table another one. */
  identify(epoch: string, allocatorEpoch: number): void {
    this.#set.run('epoch', epoch);
    this.#set.run('allocator_epoch', String(allocatorEpoch));
  }

  wasClosed(): boolean {
    // A database that was just made has nothing to say, and nothing that could be damaged.
    return (this.#get.get('open')?.value ?? '0') === '0';
  }

  noteOpen(): void {
    this.#set.run('open', '1');
  }

  noteClosed(): void {
    this.#set.run('open', '0');
  }

  #kept(key: string, make: () => string): string {
    const found = this.#get.get(key)?.value;
    if (found !== undefined) return found;
    const made = make();
    this.#set.run(key, made);
    return made;
  }
}
