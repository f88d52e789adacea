import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { figureOf, inTurn, percentile, ratioFigure } from '../figures.ts';
import { Load } from '../load/load.ts';
import type { FromWatchers, ToWatchers, WatchReport } from '../load/watchers.ts';
import type { Suite } from '../suite.ts';
import { Scratch, World } from '../world.ts';

const agents = 2_000;
const changes_per_second = 1_000;
const changes_per_round = 5_000;
const rounds = 5;
const stalling_agents = 4;
/** The few agents of the second half are granted thousands of ports each. */
const slices_of_stalling = 8;
const set_up_at_once = 32;
const grace_ms = 500;
const program = fileURLToPath(new URL('../load/watchers.ts', import.meta.url));

/** 2,000 agents listen, 1,000 changes a second: how long a change takes to its agent, also while some of them read nothing. */
export const push: Suite = async function* (settings) {
  using scratch = new Scratch();
  await using world = await World.start(scratch.path, settings);
  await world.pool('bench', agents + stalling_agents * slices_of_stalling);
  const machines = Array.from({ length: agents }, (_, index) => `agent-${index}`);
  const sessions: string[] = [];
  for (let first = 0; first < agents; first += set_up_at_once) {
    const some = machines.slice(first, first + set_up_at_once);
    const opened = some.map((id, index) =>
      world.machine(id, 'bench', first + index < stalling_agents ? slices_of_stalling : 1),
    );
    sessions.push(...(await Promise.all(opened)));
  }
  const { revision } = await world.client.events({ limit: 1 });
  using load = new Load();
  const { url } = world.server;
  const target = { host: url.hostname, port: Number(url.port) };
  const change = (some: readonly string[]) =>
    load.run({
      origin: url.origin,
      ...{ connections: 64, requests: changes_per_round, path: '/v1/leases?wait=stored', expectStatus: 201 },
      ...{ headers: { authorization: `Bearer ${world.token}` }, isKeyed: false, perSecond: changes_per_second },
      bodies: some.map((session) => JSON.stringify({ session, claims: [{ protocol: 'tcp', ports: 1 }] })),
    });
  using watchers = await Watchers.start({
    ...target,
    ...{ token: world.token, machines, from: revision, stalling: machines.slice(0, stalling_agents) },
  });
  const p99 = async (changed: readonly string[]) => {
    await change(changed);
    await sleep(grace_ms);
    return percentile((await watchers.report()).latencies, 0.99);
  };
  await p99(sessions);
  const quiet: number[] = [];
  for (let round = 0; round < rounds; round++) quiet.push(await p99(sessions));
  yield figureOf('push.p99_ms', 'ms', quiet);

  // Half of the changes go to a few agents, who read them or do not.
  const skewed = sessions.flatMap((session, index) => [session, sessions[index % stalling_agents] ?? session]);
  const sides = await inTurn(rounds, {
    subject: async () => {
      watchers.stall(true);
      const measured = await p99(skewed);
      watchers.stall(false);
      await sleep(grace_ms);
      return measured;
    },
    peer: () => p99(skewed),
  });
  yield ratioFigure('push.stalled', sides, { name: 'the same while everybody reads', unit: 'ms' });
};

class Watchers implements Disposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(watch: Extract<ToWatchers, { watch: unknown }>['watch']): Promise<Watchers> {
    const child = fork(program, { execArgv: [], serialization: 'advanced' });
    child.send({ watch });
    await once(child, 'message');
    return new Watchers(child);
  }

  async report(): Promise<WatchReport> {
    this.#child.send({ report: true });
    const [report] = (await once(this.#child, 'message')) as [FromWatchers];
    if (!('latencies' in report)) throw new Error('the watchers answered something else');
    return report;
  }

  stall(stall: boolean): void {
    this.#child.send({ stall });
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
