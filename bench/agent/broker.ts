import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { figureOf, inTurn, ratioFigure, type Figure } from '../figures.ts';
import type { LoadResult } from '../load/http-load.ts';
import { Load } from '../load/load.ts';
import { ServerUnderTest } from '../processes.ts';
import type { Suite } from '../suite.ts';
import { Scratch } from '../world.ts';

const rounds = 5;
const warm_up_requests = 4_000;
const requests_per_round = 8_000;
const connections = 64;
/** Room for every lease of the run. */
const slices = 64;
const uid = 2_001;
const peerName = 'a bare route over a Unix socket';

/**
 * Leases that a program on the host is granted by its broker over the Unix socket, each durable before it is answered; and how
 * late the agent's main thread, which does the broker's HTTP, is meanwhile to send its keepalive.
 */
export const broker: Suite = async function* () {
  using scratch = new Scratch();
  // The holder's processes have to come through.
  chmodSync(scratch.path, 0o711);
  yield* grantsOf(scratch);
  const { worst_ms } = JSON.parse(readFileSync(join(scratch.path, 'loop.json'), 'utf8')) as { worst_ms: number };
  yield figureOf('agent.broker_late_ms', 'ms', [worst_ms]);
};

/** The broker is stopped when it is done, and tells then how late its thread was. */
async function* grantsOf(scratch: Scratch): AsyncGenerator<Figure> {
  await using subject = await ServerUnderTest.broker([scratch.path, String(slices), String(uid)]);
  await using bare = await ServerUnderTest.bareSocket(join(scratch.path, 'bare.sock'));
  using load = new Load();
  const session = /^session +(\S+)$/m.exec(subject.firstWords)?.[1];
  const body = JSON.stringify({ session, claims: [{ protocol: 'tcp', ports: 1 }] });
  const run = (to: ServerUnderTest, requests: number): Promise<LoadResult> =>
    load.run({
      ...{ origin: 'http://broker', socketPath: to.url.pathname, uid, connections, requests },
      ...{ path: '/v1/leases?wait=stored', headers: {}, isKeyed: false, bodies: [body], perSecond: null },
      expectStatus: 201,
    });
  for (const to of [subject, bare]) await run(to, warm_up_requests);
  const both = await inTurn(rounds, {
    subject: () => run(subject, requests_per_round),
    peer: () => run(bare, requests_per_round),
  });
  const rate = ({ latencies, seconds }: LoadResult) => latencies.length / seconds;
  const rates = { subject: both.subject.map(rate), peer: both.peer.map(rate) };
  const ratio = ratioFigure('agent.broker', rates, { name: peerName, unit: 'requests/s' });
  yield figureOf('agent.broker_per_s', 'leases/s', rates.subject, ratio.peer);
  yield ratio;
}
