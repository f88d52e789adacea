import { setTimeout as sleep } from 'node:timers/promises';
import { startDrip, type Drip } from '../drips.ts';
import type { Packet } from '../pcap.ts';
import { until } from '../processes.ts';
import type { Step } from '../report.ts';
import { fetchOne, type Fetched } from '../visits.ts';
import { fence_s, fronts, holders, isIn, type World } from '../world.ts';

/** Of the download: longer than the whole outage. */
const kib = 3_072;
/** How much longer than the fence the host stays without an agent, so that the silence can be seen. */
const silence_s = 2;

/** The agent dies without a word, and comes back. */
export async function agentKilled(step: Step, world: World): Promise<void> {
  const leases = await world.leases();
  const drips = {
    haproxy: await startDrip(world, { from: 'haproxy', at: fronts.haproxy }, kib),
    connectProxy: await startDrip(world, { from: 'connect-proxy', proxy: fronts.connectProxy }, kib),
    fish: await startDrip(world, { from: 'client' }, kib),
  };
  await sleep(1_500);

  const { pid } = world.agent;
  const deadBefore = world.counters()['guard_dead'] ?? 0;
  const killedAt = Date.now() * 1_000;
  process.kill(pid, 'SIGKILL');
  const { signal } = await world.agent.ended;
  step.equal('killed', `the agent (pid ${pid}) is killed while three downloads run`, signal, 'SIGKILL');
  await sleep((fence_s + silence_s) * 1_000);
  const restartedAt = Date.now() * 1_000;
  const deadAfter = world.counters()['guard_dead'] ?? 0;
  await world.startAgent();
  const aliveAt = Date.now() * 1_000;

  const ours = (packet: Packet) => leases.some((lease) => isIn(lease, packet));
  const packets = (await world.capture.packets()).filter((packet) => packet.at >= killedAt && packet.at < restartedAt);
  judgeSilence(step, packets.filter(ours), { leases, killedAt, restartedAt, dropped: deadAfter - deadBefore });
  step.note(`started again, it was alive after ${((aliveAt - restartedAt) / 1e6).toFixed(1)} s`);
  const idsOf = (some: readonly Readonly<{ id: string }>[]) => some.map(({ id }) => id).toSorted();
  step.equal(
    'leases-kept',
    'every lease is still there: fish took its own over',
    idsOf(await world.leases()),
    idsOf(leases),
  );
  await judgeSurvivors(step, world, drips);

  const resets = (await world.capture.packets()).filter((packet) => packet.at >= killedAt && packet.tcp?.rst);
  const from = resets.filter(({ source }) => source.startsWith('198.51.100.'));
  step.equal(
    'no-reset',
    'nothing was reset, from the kill until now: no RST from an address of the pool',
    from.length,
    0,
    [`${resets.length} resets in the capture since the kill, ${from.length} of them from the pool`],
  );
}

type Silence = Readonly<{
  leases: Awaited<ReturnType<World['leases']>>;
  killedAt: number;
  restartedAt: number;
  dropped: number;
}>;

function judgeSilence(step: Step, sent: readonly Packet[], { leases, killedAt, restartedAt, dropped }: Silence): void {
  const lastOf = (some: readonly Packet[]) =>
    some.length === 0 ? 0 : (Math.max(...some.map(({ at }) => at)) - killedAt) / 1e6;
  const own = leases.filter(({ holder }) => holder === holders.haproxy);
  const haproxy = lastOf(sent.filter((packet) => own.some((lease) => isIn(lease, packet))));
  step.fact('proxies-go-on', 'the proxies go on without it, for as long as the guard is open', haproxy > 0.5, {
    expected: 'packets of HAProxy for more than half a second after the kill',
    seen: `${haproxy.toFixed(2)} s`,
    evidence: [`last packet of HAProxy's ${haproxy.toFixed(2)} s after the kill`],
  });
  const last = lastOf(sent);
  const quiet = (restartedAt - killedAt) / 1e6 - last;
  // The element was last renewed before the kill, so the timeout runs out within the fence; the rest is the timer's grain.
  step.fact(
    'guard-closes',
    `the guard shuts by itself within ${fence_s} s, and then nobody sends from the pool`,
    last <= fence_s + 0.3 && quiet >= 1 && dropped > 0,
    {
      expected: `last packet within ${fence_s} s of the kill, then silence; packets counted by guard_dead`,
      seen: { last_s: last, silence_s: quiet, guard_dead: dropped },
      evidence: [
        `last packet from the pool ${last.toFixed(2)} s after the kill, then silence for ${quiet.toFixed(2)} s`,
        `counter guard_dead +${dropped}`,
      ],
    },
  );
}

async function judgeSurvivors(
  step: Step,
  world: World,
  drips: Readonly<Record<'haproxy' | 'connectProxy' | 'fish', Drip>>,
): Promise<void> {
  const [haproxy, connectProxy, fish] = [
    await drips.haproxy.ended,
    await drips.connectProxy.ended,
    await drips.fish.ended,
  ];
  const outcome = ({ exitCode, sha256, error }: Fetched, drip: Drip) =>
    exitCode === 0 && sha256 === drip.sha256 ? 'whole' : error || sha256;
  step.equal(
    'proxies-survive',
    'the connections of both proxies go on where they were, and their downloads arrive whole',
    { haproxy: outcome(haproxy, drips.haproxy), connectProxy: outcome(connectProxy, drips.connectProxy) },
    { haproxy: 'whole', connectProxy: 'whole' },
  );
  step.equal(
    'fish-flows-survive',
    "so does fish's own, whose table, TUN and placeholder were with the keeper meanwhile",
    outcome(fish, drips.fish),
    'whole',
  );
  const again = await until('fish to forward again', async () => {
    const peer = await fetchOne({ namespace: world.lab.client, from: 'client', path: '/peer', maxTimeS: 2 });
    return peer.exitCode === 0 ? peer.text.trim() : undefined;
  });
  step.fact('fish-again', 'new connections through fish work again', again.startsWith('198.51.100.10:'), {
    expected: 'a leased source',
    seen: again,
    evidence: [`the origin answered "you are ${again}"`],
  });
}
