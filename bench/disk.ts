import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const samples = 200;

/** How many times a second the disk under `directory` takes a small write for good: the floor under every commit. */
export function syncsPerSecond(directory: string): number {
  const file = join(directory, 'fdatasync-probe');
  const descriptor = openSync(file, 'w');
  try {
    const page = Buffer.alloc(4_096, 1);
    const began = performance.now();
    for (let sample = 0; sample < samples; sample++) {
      writeSync(descriptor, page, 0, page.length, sample * page.length);
      fdatasyncSync(descriptor);
    }
    return samples / ((performance.now() - began) / 1_000);
  } finally {
    closeSync(descriptor);
    rmSync(file);
  }
}
