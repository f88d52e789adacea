import { setTimeout as sleep } from 'node:timers/promises';
import { figureOf, percentile } from '../figures.ts';
import type { Suite } from '../suite.ts';
import { Scene } from './scene.ts';

const leases = 10_000;
const rounds = 3;
const changes_per_round = 50;
const idle_s = 10;

/** From nothing to 10,000 leases made true and told; then one change among them, and what it costs to have nothing to do. */
export const reconcile: Suite = async function* () {
  const fromNothing: number[] = [];
  const changes: number[] = [];
  const idle: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await using scene = await Scene.open(leases);
    fromNothing.push(await scene.startAgent(leases));
    const took: number[] = [];
    for (let index = 0; index < changes_per_round; index++)
      took.push(await scene.change('grant', leases + index), await scene.change('release', leases + index));
    changes.push(percentile(took, 0.95));
    const before = scene.agentProcessorTime();
    await sleep(idle_s * 1_000);
    idle.push((scene.agentProcessorTime() - before) / idle_s);
  }
  yield figureOf('agent.reconcile10k_s', 's', fromNothing);
  yield figureOf('agent.reconcile_one_ms', 'ms', changes);
  yield figureOf('agent.idle_processor', 'of one', idle);
};
