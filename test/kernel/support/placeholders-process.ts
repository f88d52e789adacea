/**
 * The agent's placeholders and nothing else: takes over what is in the keepers of a folder, holds blocks, says so after each of
 * them with a line of JSON, and then stays. Arguments: the folder, which keeper to start, JSON of the blocks.
 */
import { Keepers } from '../../../src/agent/placeholders/keepers.ts';
import { Placeholders } from '../../../src/agent/placeholders/placeholders.ts';
import type { Block } from '../../../src/agent/host/sets.ts';
import { connectKeeper } from '../../../src/keeper/client.ts';
import { keeperNumbers, keeperPath } from '../../../src/keeper/place.ts';
import { keeperPrograms, type Implementation } from '../../../src/keeper/program.ts';
import { ensureKeeper } from '../../../src/keeper/start.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { isBound, isPing } from '../../../src/sys/placeholder-check.ts';
import { openBound, openPing } from '../../../src/sys/placeholders.ts';
import { processesOf, SockDiag } from '../../../src/sys/sock-diag.ts';

export type HeldSoFar = Readonly<{
  held: number;
  open: number;
  refusals: readonly string[];
  keepers: readonly number[];
}>;

const [folder = '', implementation = 'auto', blocksText = '[]'] = process.argv.slice(2);
const blocks = JSON.parse(blocksText) as readonly Block[];
const programs = () => keeperPrograms(implementation as Implementation, folder);
const keepers = new Keepers({
  open: (number) => ensureKeeper(keeperPath(number, folder), programs),
  connect: (number) => connectKeeper(keeperPath(number, folder)),
  found: () => keeperNumbers(folder),
  isNeeded: true,
  reserved: 0,
  log: { info: () => {}, warn: console.error },
  now: () => performance.now(),
  endsAll: false,
});
const diag = new SockDiag();
const begun = await keepers.begin();
if (!begun.ok) throw new Error(begun.error);
const placeholders = new Placeholders({
  open: { openBound, openPing, isBound, isPing, closeFd },
  keepers,
  table: {
    sockets: (query) => diag.sockets(query),
    pingSockets: (query) => diag.pingSockets(query),
    destroy: (socket) => diag.destroy(socket),
    processesOf,
  },
  mark: 42,
  budget: { bound_max: 100_000, remedy: 'claim less' },
  log: { warn: console.error },
});
placeholders.adopt(begun.value);
placeholders.keepOnly(blocks);
const refusals: string[] = [];
for (const [index, block] of blocks.entries()) {
  const refusal = await placeholders.hold(`lease-${index}`, block);
  if (refusal) refusals.push(`${refusal.errno}: ${refusal.detail}`);
  const pids = keepers.status.map(({ pid }) => pid);
  const said: HeldSoFar = { held: index + 1, open: placeholders.open, refusals, keepers: pids };
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
setInterval(() => {}, 60_000);
