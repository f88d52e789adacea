import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const program = join(import.meta.dirname, '../support/allocations.ts');
const packetsPerKind = 100_000;
/** Of each kind; the young generation has to hold all that is made meanwhile, or the program says so. */
const young = ['--min-semi-space-size=128', '--max-semi-space-size=128'];
/** What is counted of a kind at all: a buffer that grows, code that is compiled anew. An object is 16 bytes at least, so less than one for every second packet. */
const slack_bytes = 8;
/** Compilers decide by the clock what they compile together. What the code itself makes, it makes every time. */
const runs_max = 5;

function measured(): Record<string, number> {
  const args = ['--expose-gc', ...young, program, String(packetsPerKind)];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, number>;
}

test('a million packets make no objects, whatever their addresses are', () => {
  const perPacket: Record<string, number> = {};
  for (let run = 0; run < runs_max; run++) {
    for (const [kind, bytes] of Object.entries(measured()))
      perPacket[kind] = Math.min(perPacket[kind] ?? Infinity, bytes);
    if (Object.values(perPacket).every((bytes) => bytes < slack_bytes)) break;
  }
  expect(Object.keys(perPacket)).toHaveLength(10);
  expect(Object.entries(perPacket).filter(([, bytes]) => bytes >= slack_bytes)).toEqual([]);
});
