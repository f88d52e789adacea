import { fc, test } from '@fast-check/vitest';
import { describe } from 'vitest';
import { pathCommand, PathWorld } from '../support/path-world.ts';

describe('fish does to bytes what the naive path does', () => {
  test.prop([fc.array(pathCommand, { minLength: 20, maxLength: 120 }), fc.integer()], { numRuns: 200 })(
    'through any sequence of packets, fragments, errors, options, offloads, silences and changes of lease',
    (commands, seed) => {
      const world = new PathWorld(seed);
      for (const command of commands) {
        world.carryOut(command);
        world.compare();
      }
      world.end();
    },
  );
});
