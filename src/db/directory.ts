import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { StoreError } from '../leases/store.ts';

/**
 * Makes a data directory, and those above it, where they are missing. Throws a `StoreError` that says which. Each by itself:
 * told to make a folder in a place that has none to make, such as /proc, a recursive mkdir of Node.js tries for ever.
 */
export function makeDirectory(directory: string): void {
  try {
    makeMissing(directory);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new StoreError('io', `the data directory ${directory} cannot be made: ${reason}`, error);
  }
}

function makeMissing(directory: string): void {
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() === true) return;
  const parent = dirname(directory);
  if (parent !== directory) makeMissing(parent);
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    // Another server may have been faster.
    if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
  }
}
