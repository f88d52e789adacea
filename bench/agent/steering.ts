import { once } from 'node:events';
import type { SteeringMode } from '../../src/agent/steering/choose.ts';
import { AgentLab } from '../../test/kernel/support/agent-lab.ts';
import { inTurn, ratioFigure } from '../figures.ts';
import type { Suite } from '../suite.ts';

const rounds = 11;
const seconds = 1.5;
const origin = '203.0.113.1';

/**
 * Bulk TCP of a client through fish, every flow behind a placeholder: replies steered by the program at tc ingress with early
 * demux on, beside the same steered by nftables with early demux off, on two hosts that are alike but for that. Downloads and
 * uploads count alike. One second of TCP beside the next is up to a third faster or slower, so many short rounds.
 */
export const steering: Suite = async function* () {
  await using ebpf = await Side.open('ebpf');
  await using nftables = await Side.open('nftables');
  const sides = await inTurn(rounds, { subject: () => ebpf.bulk(), peer: () => nftables.bulk() });
  yield ratioFigure('agent.steering_ebpf', sides, { name: 'nftables, early demux off', unit: 'Mbit/s' });
};

class Side {
  readonly #lab: AgentLab;

  private constructor(lab: AgentLab) {
    this.#lab = lab;
  }

  static async open(mode: SteeringMode): Promise<Side> {
    const lab = await AgentLab.open(`bench-${mode}`);
    const side = new Side(lab);
    try {
      await side.#start(mode);
      await side.bulk();
      return side;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  async #start(mode: SteeringMode): Promise<void> {
    const lab = this.#lab;
    await lab.setUp();
    const fish = { client_prefixes: ['100.64.0.0/10'], claims: [{ protocol: 'tcp', mode: 'shared', ports: 128 }] };
    const agent = lab.startAgent(lab.configure({ client_interfaces: ['hc'], steering: mode, fish, log_level: 'warn' }));
    await agent.until(({ lease_counts, guard }) => lease_counts['up'] === 1 && guard.open, 'fish has no lease', 60_000);
    const { steering: chosen } = await agent.status();
    if (chosen?.mode !== mode) throw new Error(`steering is by ${chosen?.mode}, not by ${mode}`);
    const sink = lab.spawn(lab.origin, ['iperf3', '-s', '-B', origin, '--forceflush']);
    if (sink.stdout) await once(sink.stdout, 'data');
  }

  bulk(): Promise<number> {
    return Promise.resolve((this.#bulk('') + this.#bulk('--reverse')) / 2);
  }

  #bulk(direction: string): number {
    const said = this.#lab.shell(
      this.#lab.clientSide,
      `iperf3 -J -c ${origin} -t ${seconds} -O 0.3 --connect-timeout 5000 ${direction}`,
    );
    const { end } = JSON.parse(said) as { end: { sum_received: { bits_per_second: number } } };
    return end.sum_received.bits_per_second / 1e6;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lab.close();
  }
}
