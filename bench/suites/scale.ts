import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fill } from '../fill.ts';
import { figureOf, inTurn, median, ratioFigure } from '../figures.ts';
import { InProcess } from '../in-process.ts';
import { ServerUnderTest } from '../processes.ts';
import type { Suite } from '../suite.ts';
import { Scratch } from '../world.ts';

const rounds = 7;
const at_once = 64;
const grants_per_round = 4_000;
/** On the full machine only every hundredth port is free. */
const grants_per_full_round = 1_000;
const slices_crowd = 4_376;
const slices_full = 512;
const slices_roomy = 100;
const few_leases = 1_000;
const starts = 3;

/** Ten million live leases, a hundredth of them on a machine that is full to 99 %, against one thousand. */
export const scale: Suite = async function* () {
  using scratch = new Scratch();
  const [many, few] = [join(scratch.path, 'many'), join(scratch.path, 'few')];
  for (const directory of [many, few]) mkdirSync(directory);
  const sessions = await prepare(many, { crowd: slices_crowd, full: slices_full });
  const leases = fill(many, [
    { machine: 'crowd', holder: 'proxy', session: sessions.crowd, freeEvery: 0 },
    { machine: 'full', holder: 'proxy', session: sessions.full, freeEvery: 100 },
  ]);
  yield figureOf('scale.leases', 'live leases', [leases]);
  const small = await prepare(few, { crowd: 1, full: 1 });

  {
    await using large = await InProcess.open(many);
    await using little = await InProcess.open(few);
    await little.grant(small.crowd, few_leases, at_once);
    const peer = { name: `the same with ${few_leases} live leases`, unit: 'µs a grant' };
    for (const [to, session] of [
      [large, sessions.roomy],
      [little, small.roomy],
    ] as const)
      await to.grant(session, grants_per_round, at_once);
    const sides = await inTurn(rounds, {
      subject: () => large.grant(sessions.roomy, grants_per_round, at_once),
      peer: () => little.grant(small.roomy, grants_per_round, at_once),
    });
    yield ratioFigure('scale.leases10m', sides, peer);
    const full = await inTurn(rounds, {
      subject: () => large.grant(sessions.full, grants_per_full_round, at_once),
      peer: () => little.grant(small.roomy, grants_per_full_round, at_once),
    });
    yield ratioFigure('scale.fill99', full, peer);
  }

  const started = { many: [] as number[], few: [] as number[] };
  const resident = { many: [] as number[], few: [] as number[] };
  for (let start = 0; start < starts; start++)
    for (const [side, directory] of [
      ['many', many],
      ['few', few],
    ] as const) {
      await using server = await ServerUnderTest.fishery(['--data-dir', directory]);
      started[side].push(server.startedIn);
      resident[side].push(server.residentBytes / 2 ** 20);
    }
  const empty = { name: `with ${few_leases} leases`, value: median(started.few), unit: 's' };
  yield figureOf('scale.startup_s', 's', started.many, empty);
  yield ratioFigure(
    'scale.rss',
    { subject: resident.many, peer: resident.few },
    { name: `with ${few_leases} leases`, unit: 'MiB' },
  );
};

async function prepare(directory: string, slices: Readonly<{ crowd: number; full: number }>) {
  await using engine = await InProcess.open(directory);
  await engine.pool('bench', '100.64.0.0/24');
  return {
    crowd: await engine.machine('crowd', 'bench', slices.crowd),
    full: await engine.machine('full', 'bench', slices.full),
    roomy: await engine.machine('roomy', 'bench', slices_roomy),
  };
}
