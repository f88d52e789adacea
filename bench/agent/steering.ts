import { once } from 'node:events';
import type { SteeringMode } from '../../src/agent/steering/choose.ts';
import { AgentLab } from '../../test/kernel/support/agent-lab.ts';
import { inTurn, ratioFigure } from '../figures.ts';
import type { Suite } from '../suite.ts';

const rounds = 7;
const seconds = 1.5;
const origin = '203.0.113.1';

/**
 * Bulk TCP of a client through fish, every flow behind a placeholder: replies steered by the program at tc ingress with early
 * demux on, beside the same steered by nftables with early demux off. Each round starts the agent anew, so that no side
 * keeps what one run of it happened to be like; downloads and uploads count alike.
 */
export const steering: Suite = async function* () {
  const lab = await AgentLab.open('bench');
  try {
    const fish = {
      client_prefixes: ['100.64.0.0/10'],
      claims: [{ protocol: 'tcp', mode: 'shared', ports: 128 }],
    };
    const settings = (mode: SteeringMode) => ({
      ...{ client_interfaces: ['hc'], steering: mode, fish, log_level: 'warn' },
    });
    await lab.setUp();
    const sink = lab.spawn(lab.origin, ['iperf3', '-s', '-B', origin, '--forceflush']);
    if (sink.stdout) await once(sink.stdout, 'data');
    const bulk = (direction: string): number => {
      const said = lab.shell(
        lab.clientSide,
        `iperf3 -J -c ${origin} -t ${seconds} -O 0.3 --connect-timeout 5000 ${direction}`,
      );
      const { end } = JSON.parse(said) as { end: { sum_received: { bits_per_second: number } } };
      return end.sum_received.bits_per_second / 1e6;
    };
    const side = (mode: SteeringMode) => async (): Promise<number> => {
      const agent = lab.startAgent(lab.configure(settings(mode)));
      await agent.until(
        ({ lease_counts, guard }) => lease_counts['up'] === 1 && guard.open,
        'fish has no lease',
        60_000,
      );
      const { steering: chosen } = await agent.status();
      if (chosen?.mode !== mode) throw new Error(`steering is by ${chosen?.mode}, not by ${mode}`);
      const reached = (bulk('') + bulk('--reverse')) / 2;
      await agent.end();
      return reached;
    };
    const sides = await inTurn(rounds, { subject: side('ebpf'), peer: side('nftables') });
    yield ratioFigure('agent.steering_ebpf', sides, { name: 'nftables, early demux off', unit: 'Mbit/s' });
  } finally {
    await lab.close();
  }
};
