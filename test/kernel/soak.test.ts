import { expect, test } from 'vitest';
import { soak } from '../../bench/soak/soak.ts';

/* The short form of `npm run soak`: a minute, which passes beside the other kernel tests. */
test('thousands of flows come and go, agents and leases with them: memory stays flat, and nothing is left', async () => {
  const said: string[] = [];
  const report = await soak({
    name: 'soak',
    seconds: 60,
    flows: 3_000,
    growth_bytes_max: 32 * 2 ** 20,
    say: (line) => said.push(line),
  });
  expect(report.problems, said.join('\n')).toEqual([]);
  expect(report.flowsOpened).toBeGreaterThan(9_000);
}, 300_000);
