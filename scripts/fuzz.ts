/**
 * `npm run fuzz [-- COUNT [SEED]]`: sends so many mutated packets (a million) through fish and says what became of them. It fails
 * with the seed and the packet when one crashes it, leaves something behind, or is summed wrong. For each thousand packets
 * there is a story of TCP connections besides, with loss, overtaking and forgeries, which fish has to follow as a naive NAT does.
 */
import { randomInt } from 'node:crypto';
import { fuzz } from '../test/support/fuzz.ts';
import { playTcp, sumOf } from '../test/support/tcp/story.ts';

const [count = '1000000', seed = String(randomInt(2 ** 31))] = process.argv.slice(2);
/** A table of flows, and what is left of it, is looked at after each round. */
const round_packets = 100_000;
const packetsPerStory = 1_000;

if (!/^\d+$/.test(count) || !/^\d+$/.test(seed)) {
  console.error('usage: npm run fuzz [-- COUNT [SEED]]');
  process.exit(2);
}
const drops = new Map<string, number>();
const totals = { packets: 0, forwarded: 0, right: 0, held: 0 };
const startedAt = performance.now();
console.log(`seed ${seed}`);
for (let done = 0, round = 0; done < Number(count); done += round_packets, round++) {
  const report = fuzz(Number(seed) + round, Math.min(round_packets, Number(count) - done));
  for (const [reason, times] of Object.entries(report.drops)) drops.set(reason, (drops.get(reason) ?? 0) + times);
  for (const name of ['packets', 'forwarded', 'right', 'held'] as const) totals[name] += report[name];
}
const { packets, forwarded, right, held } = totals;
const took_s = ((performance.now() - startedAt) / 1_000).toFixed(1);
console.log(
  `${packets} packets in ${took_s} s: ${forwarded} forwarded, ${right} of them with every checksum right; ${held} waited`,
);
for (const [reason, times] of [...drops].sort((a, b) => b[1] - a[1]))
  console.log(`${String(times).padStart(8)} ${reason}`);

const stories = Math.ceil(Number(count) / packetsPerStory);
const told = sumOf(Array.from({ length: stories }, (_, story) => playTcp(Number(seed) + story)));
console.log(
  `${stories} stories of TCP: ${told.packets} packets of ${told.connections} connections, ${told.forged} forgeries`,
);
const endings = `${told.finished} finished, ${told.reset} reset, ${told.idle} idle, ${told.begunAnew} begun anew`;
console.log(`${endings}; ${told.superseded} superseded; ${told.portsUsedAgain} times a port was used again`);
