import { once } from 'node:events';
import { inTurn, ratioFigure } from '../figures.ts';
import type { Suite } from '../suite.ts';
import { firstUid, leaseAt } from './desired.ts';
import { Scene, until } from './scene.ts';

const leases = 10_000;
const rounds = 15;
const seconds = 1.5;
const port = 5_201;

/**
 * Bulk TCP of a proxy out of its leased ports, with the guard over 10,000 blocks, beside the same with its table asleep. One
 * second of TCP beside the next is up to a third faster or slower, so many short rounds.
 */
export const guard: Suite = async function* () {
  await using scene = await Scene.open(leases);
  await scene.startAgent(leases);
  await until(async () => (await scene.status()).guard.open, 'the guard is open');
  // It would wake its table again.
  scene.signalAgent('SIGSTOP');
  const { address, ports } = leaseAt(0);
  scene.run(
    scene.host,
    `sysctl -qw net.ipv4.ip_local_port_range='${ports.first} ${ports.last}' net.ipv4.tcp_tw_reuse=1`,
  );
  const sink = scene.spawn(scene.origin, ['iperf3', '-s', '-p', String(port), '--forceflush']);
  if (sink.stdout) await once(sink.stdout, 'data');
  const bulk = async (): Promise<number> => {
    const uid = `--reuid ${firstUid} --regid ${firstUid} --clear-groups`;
    const said = scene.run(
      scene.host,
      `timeout 30 setpriv ${uid} iperf3 -J -c 192.0.2.2 -p ${port} -B ${address} -t ${seconds} -O 0.3`,
    );
    const { end } = JSON.parse(said) as { end: { sum_received: { bits_per_second: number } } };
    return end.sum_received.bits_per_second / 1e6;
  };
  await bulk();
  const sides = await inTurn(rounds, {
    subject: bulk,
    peer: async () => {
      scene.run(scene.host, "nft add table inet fishery '{ flags dormant; }'");
      try {
        return await bulk();
      } finally {
        scene.run(scene.host, 'nft add table inet fishery');
      }
    },
  });
  yield ratioFigure('agent.guard', sides, { name: 'the same with the table asleep', unit: 'Mbit/s' });
};
