import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { LeasedPorts } from '../../../src/fish/ports/leased-ports.ts';

const protocols = [6, 17];
const addresses = [1, 0xc633_640a];
/** Small blocks, in any order, with gaps or without. */
const block = fc.record({
  protocol: fc.constantFrom(...protocols),
  address: fc.constantFrom(...addresses),
  ports: fc
    .nat({ max: 9 })
    .chain((at) => fc.constantFrom(0, 1, 3).map((more) => ({ first: at * 4, last: at * 4 + more }))),
});

test.prop([
  fc.uniqueArray(block, { selector: ({ protocol, address, ports }) => `${protocol} ${address} ${ports.first}` }),
])('a port is leased if it is in a block of its protocol and address, and else is not', (blocks) => {
  const leased = new LeasedPorts(blocks);
  for (const protocol of [...protocols, 1])
    for (const address of [...addresses, 2])
      for (let port = 0; port < 48; port++)
        expect(leased.has(protocol, address, port)).toBe(
          blocks.some(
            (each) =>
              each.protocol === protocol &&
              each.address === address &&
              each.ports.first <= port &&
              port <= each.ports.last,
          ),
        );
});

test('the last port there is can be leased', () => {
  const leased = new LeasedPorts([{ protocol: 6, address: 7, ports: { first: 65_024, last: 65_535 } }]);
  expect([65_023, 65_024, 65_535].map((port) => leased.has(6, 7, port))).toEqual([false, true, true]);
});
