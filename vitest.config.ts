import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.ts';

const kernelTests = 'test/kernel/**/*.test.ts';
const postgresTests = 'test/postgres/**/*.test.ts';
const loadTests = 'test/load/**/*.test.ts';
const elsewhere = [kernelTests, postgresTests, loadTests];

export default defineConfig({
  test: {
    // A slow machine is no failure; a test that hangs is.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // The same for what a test looks at until it is so: one second passes quickly on a busy machine.
    expect: { poll: { timeout: 20_000 } },
    setupFiles: ['test/support/property-limits.ts'],
    sequence: { sequencer: LongestFirst },
    // All cores: by default one is left alone, which is half of a machine with two.
    maxWorkers: '100%',
    // Hundreds of programs are started from their sources, and half of each start would be compiling what did not change.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules/.cache/compiled') },
    projects: [
      {
        extends: true,
        // One process reads the sources once for all its files: without it, a quarter of the time goes into reading.
        test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: elsewhere, isolate: false },
      },
      {
        extends: true,
        // A real server, started once for all of them.
        test: {
          name: 'postgres',
          include: [postgresTests],
          globalSetup: 'test/support/postgres/global-setup.ts',
          isolate: false,
        },
      },
      {
        extends: true,
        test: {
          name: 'kernel',
          include: [kernelTests],
          globalSetup: 'test/kernel/support/global-setup.ts',
          // Longer than what the tests themselves give a busy machine, whose words say more.
          testTimeout: 90_000,
          // Each file has namespaces of its own, but their time-outs are the machine's: not beside the unit tests. They wait
          // for those time-outs much of their time, so there is one more at a time than there are cores.
          maxWorkers: availableParallelism() + 1,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'load',
          include: [loadTests],
          globalSetup: 'test/support/postgres/global-setup.ts',
          // A minute in which every core is busy: nothing else could be in time beside it.
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
