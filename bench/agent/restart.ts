import { setTimeout as sleep } from 'node:timers/promises';
import { RestartScene } from '../../test/kernel/support/restart-scene.ts';
import { figureOf } from '../figures.ts';
import type { Suite } from '../suite.ts';

const rounds = 3;
/** Of each way and each kind of block. */
const streams = 4;
/** A hundred a second: what queues while nobody reads fits into the receiver's socket. */
const datagramEvery_ms = 10;
/** What is on its way is no loss. */
const settling_ms = 1_000;

/** The agent ended and started again under load: what broke, and what was lost of a numbered stream, either way. */
export const restart: Suite = async function* () {
  const scene = await RestartScene.open(`bench-${process.pid}`);
  try {
    await scene.begin(streams, datagramEvery_ms);
    const broken: number[] = [];
    const lost = { SIGTERM: [] as number[], SIGKILL: [] as number[] };
    let most = 0;
    for (let round = 0; round < rounds; round++)
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        const { sent: first } = await scene.client.report();
        await scene.restart(signal);
        await scene.everythingMoves();
        await scene.agent.ready();
        const { sent: last } = await scene.client.report();
        await sleep(settling_ms);
        const { there, back } = await scene.lost(first, last);
        // What did not get there did not come back either.
        lost[signal].push(Math.max(there, back));
        most = Math.max(most, last - first);
        if (signal === 'SIGKILL') broken.push((await scene.broken()).length);
      }
    yield figureOf('agent.restart_broken', 'connections', broken, {
      name: 'connections that there were',
      value: scene.streams,
      unit: 'connections',
    });
    const peer = { name: 'sent meanwhile, one way, at most', value: most, unit: 'packets' };
    yield figureOf('agent.restart_lost_planned', 'packets', lost.SIGTERM, peer);
    yield figureOf('agent.restart_lost_killed', 'packets', lost.SIGKILL, peer);
  } finally {
    await scene.close();
  }
};
