import { StoreError } from '../leases/store.ts';
import { makeDirectory } from '../ops/directory.ts';

/** Makes a data directory, and those above it, where they are missing. Throws a `StoreError` that says which. */
export function makeDataDirectory(directory: string): void {
  try {
    makeDirectory(directory);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new StoreError('io', `the data directory ${directory} cannot be made: ${reason}`, error);
  }
}
