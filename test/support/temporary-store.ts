import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore, type OpenOptions } from '../../src/db/sqlite/open.ts';
import type { Store } from '../../src/leases/store.ts';

/** A store on a directory of its own that is gone afterwards: `await using store = await temporaryStore()`. */
export async function temporaryStore(options: Partial<OpenOptions> = {}): Promise<TemporaryStore> {
  const directory = mkdtempSync(join(tmpdir(), 'fishery-store-'));
  try {
    return new TemporaryStore(
      directory,
      await openSqliteStore({ directory, newEpoch: () => 'epoch-1', nowUs: () => 0, ...options }),
    );
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

export class TemporaryStore implements AsyncDisposable {
  readonly directory: string;
  store: Store;

  constructor(directory: string, store: Store) {
    this.directory = directory;
    this.store = store;
  }

  /** As after a restart of the server. */
  async reopen(): Promise<Store> {
    await this.store.close();
    this.store = await openSqliteStore({ directory: this.directory, newEpoch: () => 'epoch-2', nowUs: () => 0 });
    return this.store;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
