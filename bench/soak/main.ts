/** What `npm run soak` runs: see `soak`. Ten minutes with 50,000 flows; `--seconds`, `--flows` for less. Needs root and a compiler. */
import { parseArgs } from 'node:util';
import { soak } from './soak.ts';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '600' }, flows: { type: 'string', default: '50000' } },
});
const [seconds, flows] = [Number(values.seconds), Number(values.flows)];
if (!(seconds >= 20 && seconds <= 86_400) || !(flows >= 100 && flows <= 500_000)) {
  console.error('--seconds: 20 to 86400; --flows: 100 to 500000');
  process.exit(2);
}
const began = performance.now();
const say = (line: string) => console.log(`${((performance.now() - began) / 1_000).toFixed(0).padStart(5)} s  ${line}`);
const { problems, ...report } = await soak({ name: 'soak', seconds, flows, growth_bytes_max: 24 * 2 ** 20, say });
console.log(JSON.stringify(report));
for (const problem of problems) console.error(`PROBLEM: ${problem}`);
process.exitCode = problems.length === 0 ? 0 : 1;
