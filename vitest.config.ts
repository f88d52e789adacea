import { defineConfig } from 'vitest/config';

const kernelTests = 'test/kernel/**/*.test.ts';

export default defineConfig({
  test: {
    // A slow machine is no failure; a test that hangs is.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    setupFiles: ['test/support/property-limits.ts'],
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: [kernelTests] } },
      {
        extends: true,
        test: {
          name: 'kernel',
          include: [kernelTests],
          // Namespaces, sysctls and 5-tuples are one machine's: one file at a time, and not beside the unit tests.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
