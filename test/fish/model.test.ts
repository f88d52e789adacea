import { fc, test } from '@fast-check/vitest';
import { afterAll, describe, expect } from 'vitest';
import { command, tcpBehaviour, World } from '../support/fish-world.ts';

const family = fc.constantFrom(4 as const, 6 as const);

describe('fish does what the naive one does', () => {
  test.prop([fc.array(command, { minLength: 20, maxLength: 150 }), fc.integer(), family, tcpBehaviour], {
    numRuns: 300,
  })('through any sequence of packets, silences, changes of lease and restarts', (commands, seed, over, tcp) => {
    const world = new World(seed, over, tcp);
    for (const each of commands) {
      world.carryOut(each);
      world.compare();
    }
  });
});

describe('fish that is killed between any two stores into its memory', () => {
  let died = 0;
  afterAll(() => expect(died).toBeGreaterThan(30));
  const death = fc.record({ after: fc.nat({ max: 80 }), storesLeft: fc.nat({ max: 40 }) });
  test.prop(
    [
      fc.array(command, { minLength: 20, maxLength: 100 }),
      fc.array(death, { minLength: 1, maxLength: 6 }),
      fc.option(fc.nat({ max: 300 })),
      fc.integer(),
      family,
    ],
    { numRuns: 300 },
  )(
    'has a successor that does what the naive one does, which lives for ever',
    (commands, deaths, again, seed, over) => {
      const world = new World(seed, over, { mortal: true, flowsMax: 64, blocksMax: 6 });
      world.storesOfSuccessor = again ?? Infinity;
      for (const [index, each] of commands.entries()) {
        const death = deaths.find(({ after }) => after === index);
        if (death) world.pond.storesLeft = death.storesLeft;
        world.carryOut(each);
        world.compare();
      }
      died += world.deaths;
    },
  );
});
