import { figureOf } from '../figures.ts';
import type { Suite } from '../suite.ts';
import type { DriftKind } from '../../src/agent/host/host-state.ts';
import { Scene, until } from './scene.ts';

const leases = 10_000;
const rounds = 5;
const breaks: readonly (readonly [DriftKind, string])[] = [
  ['table', 'nft flush ruleset'],
  ['table', 'nft flush chain inet fishery guard'],
  ['element', 'nft flush set inet fishery own_uid_tcp4_128'],
  ['guard', "nft delete element inet fishery alive '{ 0 }'"],
  ['address', 'ip addr del 198.51.100.10/32 dev lo'],
];

/** From somebody else's change to its repair, on a host with 10,000 leases: the slowest of five kinds. */
export const drift: Suite = async function* () {
  await using scene = await Scene.open(leases);
  await scene.startAgent(leases);
  const guardOpens = async () => (await scene.status()).guard.open;
  await until(guardOpens, 'the guard is open');
  const slowest: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const took: number[] = [];
    for (const [kind, command] of breaks) {
      const before = (await scene.status()).host.drift[kind] ?? 0;
      scene.run(scene.host, command);
      const began = performance.now();
      await until(async () => ((await scene.status()).host.drift[kind] ?? 0) > before, `${command} undone`);
      took.push((performance.now() - began) / 1_000);
    }
    slowest.push(Math.max(...took));
  }
  yield figureOf('agent.drift_s', 's', slowest);
};
