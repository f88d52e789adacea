import { inTurn, ratioFigure } from '../figures.ts';
import { Load } from '../load/load.ts';
import { pgbench, preparePeer, runPeer } from '../peers/pgbench.ts';
import { ServerUnderTest } from '../processes.ts';
import type { Suite } from '../suite.ts';
import { Scratch, World } from '../world.ts';

const rounds = 5;
const clients = 64;
const requests_per_round = 8_000;
const peer_seconds = 3;
const slices = 200;

/** Durable grants on PostgreSQL, against pgbench with the same rows on the same server, and with a second replica. */
export const postgres: Suite = async function* (settings) {
  pgbench();
  using scratch = new Scratch();
  using second = new Scratch();
  await using database = await ServerUnderTest.postgres();
  const flags = ['--database-url', database.url.href, ...settings];
  await using one = await World.start(scratch.path, flags);
  await one.pool('bench', slices);
  const session = await one.machine('bench', 'bench', slices);
  const token = await one.tokenOf('bench');
  const script = await preparePeer(database.url, scratch.path);
  using load = new Load();
  using otherLoad = new Load();
  const grant = async (from: Load, world: World, connections: number, requests: number): Promise<number> => {
    const { latencies, seconds } = await from.run({
      origin: world.server.url.origin,
      ...{ connections, requests, path: '/v1/leases?wait=stored', expectStatus: 201, isKeyed: true, perSecond: null },
      headers: { authorization: `Bearer ${token}` },
      bodies: [JSON.stringify({ session, claims: [{ protocol: 'tcp', ports: 1 }] })],
    });
    return latencies.length / seconds;
  };
  await grant(load, one, clients, requests_per_round);
  await runPeer(database.url, script, clients, 1);
  const against = await inTurn(rounds, {
    subject: () => grant(load, one, clients, requests_per_round),
    peer: () => runPeer(database.url, script, clients, peer_seconds),
  });
  yield ratioFigure('postgres.ratio', against, {
    name: 'pgbench, the same rows in a transaction each',
    unit: 'grants/s',
  });

  await using two = await World.join(second.path, flags, one.token);
  await grant(otherLoad, two, clients, requests_per_round / 2);
  const replicas = await inTurn(rounds, {
    subject: async () => {
      const half = (from: Load, world: World) => grant(from, world, clients / 2, requests_per_round / 2);
      const began = performance.now();
      await Promise.all([half(load, one), half(otherLoad, two)]);
      return requests_per_round / ((performance.now() - began) / 1_000);
    },
    peer: () => grant(load, one, clients, requests_per_round),
  });
  yield ratioFigure('postgres.replicas2', replicas, { name: 'one replica', unit: 'grants/s' });
};
