import { expect, test } from 'vitest';
import { soak } from '../../bench/soak/soak.ts';

/* The short form of `npm run soak`. */
test('thousands of flows come and go, agents and leases with them: memory stays flat, and nothing is left', async () => {
  const said: string[] = [];
  const report = await soak({
    name: 'soak',
    seconds: 30,
    flows: 3_000,
    growth_bytes_max: 48 * 2 ** 20,
    say: (line) => said.push(line),
  });
  expect(report.problems, said.join('\n')).toEqual([]);
  expect(report.flowsOpened).toBeGreaterThan(3_000);
}, 300_000);
