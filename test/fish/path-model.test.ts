import { fc, test } from '@fast-check/vitest';
import { describe } from 'vitest';
import { tcpBehaviour } from '../support/fish-world.ts';
import { pathCommand } from '../support/path-scene.ts';
import { PathWorld } from '../support/path-world.ts';

describe.each([4, 6] as const)('over IPv%i fish does to bytes what the naive path does', (family) => {
  test.prop([fc.array(pathCommand, { minLength: 20, maxLength: 120 }), fc.integer(), tcpBehaviour], { numRuns: 80 })(
    'through any sequence of packets, fragments, errors, options, offloads, silences and changes of lease',
    (commands, seed, tcp) => {
      const world = new PathWorld(seed, family, tcp);
      for (const command of commands) {
        world.carryOut(command);
        world.compare();
      }
      world.end();
    },
  );
});
