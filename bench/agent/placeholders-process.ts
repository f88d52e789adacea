/**
 * Holds exclusive blocks in the network namespace it is started in, through keepers of its own, and says what it took. Arguments:
 * how many placeholders, and how many rounds. Prints a line of JSON for each round.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Keepers } from '../../src/agent/placeholders/keepers.ts';
import { Placeholders } from '../../src/agent/placeholders/placeholders.ts';
import type { Block } from '../../src/agent/host/sets.ts';
import { connectKeeper } from '../../src/keeper/client.ts';
import { keeperPath } from '../../src/keeper/place.ts';
import { keeperPrograms } from '../../src/keeper/program.ts';
import { ensureKeeper } from '../../src/keeper/start.ts';
import { addressToBytes, type Address } from '../../src/net/address.ts';
import { closeFd, raiseDescriptorLimit } from '../../src/sys/descriptors.ts';
import { isBound, isPing } from '../../src/sys/placeholder-check.ts';
import { openBound, openPing } from '../../src/sys/placeholders.ts';

export type PlaceholderRound = Readonly<{
  per_s: number;
  /** The same sockets, as many as one process may open, opened here and given to nobody. */
  bare_per_s: number;
  bytes_each: number;
  keepers: number;
  implementation: string;
}>;

const [wanted = 0, rounds = 0] = process.argv.slice(2).map(Number);
const blockPorts = 2_048;
const [firstPort, lastPort] = [2_048, 65_535];
const mark = 42;
const addresses = ['198.51.100.10', '2001:db8::10'] as Address[];

/** IPv4 and IPv6, tcp and udp, in turn. */
function* blocks(): Generator<Block, void, void> {
  let made = 0;
  for (let first = firstPort; ; first += blockPorts) {
    for (const protocol of ['tcp', 'udp'] as const)
      for (const address of addresses) {
        if (made >= wanted) return;
        const last = Math.min(first + blockPorts, first + wanted - made, lastPort + 1) - 1;
        yield { address, protocol, ports: { first, last }, mode: 'exclusive' };
        made += last - first + 1;
      }
    if (first + blockPorts > lastPort) throw new Error(`${wanted} placeholders are more than there are ports`);
  }
}

/** What the kernel has in its own tables. */
const kernelBytes = (): number =>
  Number(/^Slab:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? NaN) * 1_024;

function bareRate(count: number): number {
  const fds: number[] = [];
  const bytes = addressToBytes('198.51.100.10' as Address);
  const began = performance.now();
  for (let port = firstPort; fds.length < count; port++) {
    const fd = openBound(bytes, port, 'tcp', mark);
    if (fd < 0) throw new Error(`port ${port}: ${fd}`);
    fds.push(fd);
  }
  const took = performance.now() - began;
  fds.forEach(closeFd);
  return (count / took) * 1_000;
}

async function round(folder: string): Promise<PlaceholderRound> {
  const programs = () => keeperPrograms('auto', folder);
  const keepers = new Keepers({
    open: (number) => ensureKeeper(keeperPath(number, folder), programs),
    connect: (number) => connectKeeper(keeperPath(number, folder)),
    found: () => [],
    isNeeded: true,
    reserved: 0,
    log: { info: () => {}, warn: console.error },
    now: () => performance.now(),
    endsAll: false,
  });
  const begun = await keepers.begin();
  if (!begun.ok) throw new Error(begun.error);
  const placeholders = new Placeholders({
    open: { openBound, openPing, isBound, isPing, closeFd },
    keepers,
    table: { sockets: () => [], pingSockets: () => [], processesOf: () => new Map(), destroy: () => 0 },
    mark,
    budget: { bound_max: wanted, remedy: 'claim less' },
    log: { warn: console.error },
  });
  try {
    const before = kernelBytes();
    const began = performance.now();
    for (const [index, block] of [...blocks()].entries()) {
      const refusal = await placeholders.hold(`lease-${index}`, block);
      if (refusal) throw new Error(refusal.detail);
    }
    const took = performance.now() - began;
    if (placeholders.open !== wanted) throw new Error(`${placeholders.open} placeholders instead of ${wanted}`);
    const bytes_each = (kernelBytes() - before) / wanted;
    const { status } = keepers;
    keepers.end();
    // The kernel gives their memory back by and by.
    await sleep(500);
    return {
      per_s: (wanted / took) * 1_000,
      bare_per_s: bareRate(Math.min(wanted, Math.floor(raiseDescriptorLimit().hard * 0.75))),
      bytes_each,
      keepers: status.length,
      implementation: status[0]?.implementation ?? 'none',
    };
  } finally {
    keepers.end();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'fishery-bench-keepers-'));
try {
  raiseDescriptorLimit();
  for (let each = 0; each < rounds; each++) console.log(JSON.stringify(await round(folder)));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
