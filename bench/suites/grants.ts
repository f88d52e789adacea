import { syncsPerSecond } from '../disk.ts';
import { figureOf, inTurn, median, percentile, ratioFigure, type Figure } from '../figures.ts';
import type { LoadResult } from '../load/http-load.ts';
import { Load } from '../load/load.ts';
import { ServerUnderTest, type ProcessorTime } from '../processes.ts';
import type { Suite } from '../suite.ts';
import { Scratch, World } from '../world.ts';

const rounds = 7;
const warm_up_requests = 5_000;
const requests_per_round = 8_000;
const batches_per_round = 150;
const claims_per_batch = 100;
/** Room for every lease of the run. */
const slices = 400;
const peerName = 'the same route and queue, without rules and database';

/** The server's processor time in microseconds a request. */
type Accounted = LoadResult & Readonly<{ processor: ProcessorTime }>;
type Target = Readonly<{ url: URL; token: string }>;

/** Durable grants over HTTP: token, validation, idempotency key, event and fsync. */
export const grants: Suite = async function* (settings) {
  using scratch = new Scratch();
  yield figureOf('grants.disk', 'fdatasync/s', [syncsPerSecond(scratch.path)]);
  await using world = await World.start(scratch.path, settings);
  await using peerServer = await ServerUnderTest.withoutDatabase();
  using load = new Load();
  await world.pool('bench', slices);
  const session = await world.machine('bench', 'bench', slices);

  const ours = { url: world.server.url, token: await world.tokenOf('bench') };
  const theirs = { url: peerServer.url, token: /^token +(\S+)$/m.exec(peerServer.firstWords)?.[1] ?? '' };
  const claim = { protocol: 'tcp', ports: 1 };
  const run = (to: Target, connections: number, requests: number, claims: readonly object[]): Promise<LoadResult> =>
    load.run({
      origin: to.url.origin,
      connections,
      requests,
      path: '/v1/leases?wait=stored',
      headers: { authorization: `Bearer ${to.token}` },
      isKeyed: true,
      bodies: [JSON.stringify({ session, claims })],
      perSecond: null,
      expectStatus: 201,
    });
  const accounted = async (server: ServerUnderTest, work: () => Promise<LoadResult>): Promise<Accounted> => {
    const before = server.processorTime;
    const result = await work();
    const after = server.processorTime;
    const each = (part: keyof ProcessorTime) => (after[part] - before[part]) / result.latencies.length;
    return { ...result, processor: { http: each('http'), engine: each('engine'), others: each('others') } };
  };
  const both = (connections: number, requests: number, claims: readonly object[]) =>
    inTurn(rounds, {
      subject: () => accounted(world.server, () => run(ours, connections, requests, claims)),
      peer: () => accounted(peerServer, () => run(theirs, connections, requests, claims)),
    });

  for (const to of [ours, theirs]) await run(to, 64, warm_up_requests, [claim]);
  for (const connections of [64, 256]) {
    const { subject, peer } = await both(connections, requests_per_round, [claim]);
    const rate = (result: LoadResult) => result.latencies.length / result.seconds;
    const rates = { subject: subject.map(rate), peer: peer.map(rate) };
    yield ratioFigure(`grants.c${connections}`, rates, { name: peerName, unit: 'grants/s' });
    yield figureOf(`grants.c${connections}.rate`, 'grants/s', rates.subject);
    if (connections === 256) {
      const p99 = (result: LoadResult) => percentile(result.latencies, 0.99);
      const latencies = { subject: subject.map(p99), peer: peer.map(p99) };
      yield ratioFigure('grants.p99.c256', latencies, { name: peerName, unit: 'ms' });
      yield* whereTimeGoes(subject, peer);
    }
  }
  const claims = Array.from({ length: claims_per_batch }, () => claim);
  for (const to of [ours, theirs]) await run(to, 4, batches_per_round, claims);
  const batches = await both(4, batches_per_round, claims);
  const leases = (result: LoadResult) => (result.latencies.length * claims_per_batch) / result.seconds;
  yield batchFigure(batches.subject.map(leases), batches.peer.map(leases));
};

/** Processor time of each grant, which is what there is no more of when both cores are busy. */
function* whereTimeGoes(subject: readonly Accounted[], peer: readonly Accounted[]): Generator<Figure> {
  for (const part of ['http', 'engine', 'others'] as const) {
    const [ours, theirs] = [subject, peer].map((side) => side.map(({ processor }) => processor[part]));
    const beside = { name: peerName, value: median(theirs ?? []), unit: 'µs' };
    yield figureOf(`grants.cpu.${part}`, 'µs a grant', ours ?? [], beside);
  }
}

function batchFigure(subject: readonly number[], peer: readonly number[]): Figure {
  const peerFigure = figureOf('', '', peer);
  return figureOf('grants.batch100', 'leases/s', subject, {
    name: peerName,
    value: peerFigure.value,
    unit: 'leases/s',
  });
}
