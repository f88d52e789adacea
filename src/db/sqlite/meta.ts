import type Database from 'better-sqlite3';
import type { Connection } from './statements.ts';

/** What the database says of itself: whether whoever had it open last has closed it. */
export class Meta {
  readonly #get: Database.Statement<[string], { value: string }>;
  readonly #set: Database.Statement<[string, string]>;

  constructor(connection: Connection) {
    this.#get = connection.prepare('SELECT value FROM meta WHERE key = ?');
    this.#set = connection.prepare(
      'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    );
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
}
