import { engine } from '../fish/engine.ts';
import { flows } from '../fish/flows.ts';
import { FishLab, NoCompiler, type Claim, type Side } from '../fish/lab.ts';
import { bulk, connections, pps64, udpGso, type Traffic } from '../fish/traffic.ts';
import { figureOf, inTurn, ratioFigure, type Figure } from '../figures.ts';
import type { Suite } from '../suite.ts';

const rounds = 7;

/** Everything switched on: TCP behind placeholders, replies steered by eBPF. */
const shared: readonly Claim[] = [
  { protocol: 'tcp', mode: 'shared', ports: 1_024 },
  { protocol: 'udp', ports: 64 },
];
const exclusive: readonly Claim[] = [{ protocol: 'tcp', ports: 1_024 }];
/** The terminating path has all TCP, in leases of its own. */
const terminated: readonly Claim[] = [{ protocol: 'tcp', mode: 'shared', ports: 1_024 }];
const datagramsOnly: readonly Claim[] = [{ protocol: 'udp', ports: 64 }];
/** So that what is closed is also given up within the measurement, and not only a minute after it; and room for one client. */
const shortRest = { timers: { tcp_rest_s: 1 }, placeholders_max: 65_536 };

const kernel = 'nftables source NAT';
const loop = 'a plain loop in C with the same offloads';

type Part = Readonly<{ name: string; measure: () => AsyncGenerator<Figure, void, void> }>;

/** One kind of traffic through fish and through the kernel, in turn. */
function besideKernel(
  name: string,
  claims: readonly Claim[],
  open: (lab: FishLab, sides: readonly Side[]) => Traffic | Promise<Traffic>,
  terminate: readonly Claim[] = [],
): Part {
  const sides = ['fish', 'nft'] as const;
  return {
    name,
    async *measure() {
      await using lab = await FishLab.open({ name: 'bench', claims, sides, fish: shortRest, terminate });
      const traffic = await open(lab, sides);
      // The first round of either is not counted: compilers and caches are cold.
      for (const side of sides) await traffic.run(side);
      const both = await inTurn(rounds, { subject: () => traffic.run('fish'), peer: () => traffic.run('nft') });
      traffic.close();
      yield ratioFigure(name, both, { name: kernel, unit: traffic.unit });
    },
  };
}

const besideC: Part = {
  name: 'fish.vs_c',
  async *measure() {
    const sides = ['fish', 'c'] as const;
    await using lab = await FishLab.open({ name: 'bench', claims: shared, sides, fish: shortRest });
    const ratios: number[][] = [];
    for (const [kind, open] of [
      ['tcp_up', () => bulk(lab, 'up')],
      ['tcp_down', () => bulk(lab, 'down')],
      ['udp_gso', () => udpGso(lab)],
      ['pps64', () => pps64(lab)],
    ] as const) {
      const traffic = await open();
      for (const side of sides) await traffic.run(side);
      const both = await inTurn(rounds, { subject: () => traffic.run('fish'), peer: () => traffic.run('c') });
      traffic.close();
      yield ratioFigure(`fish.vs_c.${kind}`, both, { name: loop, unit: traffic.unit });
      ratios.push(both.subject.map((value, round) => value / (both.peer[round] ?? Number.NaN)));
    }
    const means = Array.from({ length: rounds }, (_, round) =>
      Math.exp(ratios.reduce((sum, each) => sum + Math.log(each[round] ?? Number.NaN), 0) / ratios.length),
    );
    yield figureOf('fish.vs_c', 'ratio', means, {
      name: `${loop}: the geometric mean of the four`,
      value: 1,
      unit: 'ratio',
    });
  },
};

const closed = (lab: FishLab, sides: readonly Side[]) => connections(lab, sides, 'close');

/** One after the other. All but the first open a lab of their own, and need root and a C compiler. */
const parts: readonly Part[] = [
  { name: 'fish.engine', measure: () => engine(rounds) },
  besideKernel('fish.tcp_up', shared, (lab) => bulk(lab, 'up')),
  besideKernel('fish.tcp_down', shared, (lab) => bulk(lab, 'down')),
  besideKernel('fish.udp_gso', shared, udpGso),
  besideKernel('fish.pps64', shared, pps64),
  besideKernel('fish.conns', exclusive, connections),
  besideKernel('fish.conns_closed', exclusive, closed),
  besideKernel('fish.conns_placeholder', shared, connections),
  // The terminating path, on the same host.
  besideKernel('fish.terminate', datagramsOnly, (lab) => bulk(lab, 'up'), terminated),
  besideKernel('fish.terminate_down', datagramsOnly, (lab) => bulk(lab, 'down'), terminated),
  besideKernel('fish.terminate_conns', datagramsOnly, closed, terminated),
  { name: 'fish.flows500k', measure: () => flows(rounds) },
  besideC,
];

/** The packet path of the product as an agent sets it up, beside other ways to do the same on the same machine. */
export const fish: Suite = async function* (_settings, isWanted = () => true) {
  for (const { name, measure } of parts) {
    if (!isWanted(name)) continue;
    try {
      yield* measure();
    } catch (error) {
      if (!(error instanceof NoCompiler)) throw error;
      console.error(`${name} is left out: ${error.message}`);
    }
  }
};
