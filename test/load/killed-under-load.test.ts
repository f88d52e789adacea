import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import { Asker } from '../support/concurrency/asking.ts';
import { flawsOfRun } from '../support/concurrency/checker.ts';
import { Fleet } from '../support/concurrency/fleet.ts';
import { Ledger } from '../support/concurrency/ledger.ts';
import { followLog, readLog, watchMachine } from '../support/concurrency/watchers.ts';
import { hold, revoke, revokeAll, shift } from '../support/concurrency/workers.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';

/** `CONCURRENCY_S=600 npm run test:concurrency` lets it go on for longer. */
const load_s = Number(process.env['CONCURRENCY_S'] ?? 60);
const seed = Number(process.env['CONCURRENCY_SEED'] ?? Date.now() % 1_000_000);

const machines = ['m-1', 'm-2', 'm-3'];
const holders = ['web', 'mail', 'dns', 'push', 'feed', 'scan'];
const workers_per_holder = 12;

/** Slices that need no agent and no rest, few enough that everybody is in everybody's way; a token for each holder. */
async function furnish(client: FisheryClient): Promise<ReadonlyMap<string, string>> {
  await client.pools.create({
    ...{ id: 'p', prefixes: ['198.51.100.0/30'], slice_ports: 256, shared_block_ports: 16 },
    ...{ usable_ports: { first: 1_024, last: 5_119 }, cooldown_s: { tcp: 0, udp: 0, icmp: 0 } },
  });
  const tokens = new Map<string, string>();
  for (const machine of machines) {
    await client.machines.create({ id: machine, enforcement: 'none' });
    await client.slices.assign({ machine, pool: 'p', count: 6 });
    for (const holder of holders) {
      await client.machines.putHolder(machine, holder, { kind: 'proxy' });
      const { secret } = await client.tokens.create({ name: `${machine}-${holder}`, role: 'holder', machine, holder });
      tokens.set(`${machine}/${holder}`, secret);
    }
  }
  return tokens;
}

/** Numbers that a seed repeats, so that at least the orders of who does what can be had again. */
function randomOf(seeded: number): () => number {
  let state = seeded >>> 0;
  return () => {
    // Mulberry32, by Tommy Ettinger; public domain.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('servers that are killed at random while hundreds of clients use them', () => {
  it(
    `give no port twice, lose nothing that they answered, and show everybody the same history (seed ${seed})`,
    { timeout: (load_s + 240) * 1_000 },
    async () => {
      await using database = await temporaryDatabase('');
      await using fleet = await Fleet.start(database.url, 3);
      const random = randomOf(seed);
      const ledger = new Ledger();
      const tokens = await furnish(new FisheryClient({ url: fleet.urls[0] ?? '', token: fleet.operatorToken }));
      const askerOf = (token: string) => new Asker(fleet.urls, token, ledger, random);
      const operator = askerOf(fleet.operatorToken);

      const watching = new AbortController();
      const watchers = [
        readLog('log-by-pages', operator, watching.signal),
        followLog('log-by-stream', operator, watching.signal),
        ...machines.map((machine) => watchMachine(`watch-${machine}`, machine, operator, watching.signal)),
      ];
      const loading = new AbortController();
      const raging = new AbortController();
      const parts = { ledger, random, signal: loading.signal };
      const load = [...tokens].flatMap(([name, token]) => {
        const [machine = '', holder = ''] = name.split('/');
        return Array.from({ length: workers_per_holder }, () => hold(askerOf(token), { machine, holder }, parts));
      });
      const all = Promise.all([
        ...load,
        ...Array.from({ length: 4 }, () => revoke(operator, parts)),
        revokeAll(
          operator,
          machines.flatMap((machine) => holders.map((holder) => ({ machine, holder }))),
          parts,
        ),
        shift(operator, machines, 'p', parts),
      ]);
      const rage = fleet.rage(raging.signal, random);
      await sleep(load_s * 1_000);
      loading.abort();
      await all;
      raging.abort();
      await rage;

      const end = (await operator.one().events({ after: 0, limit: 1 })).revision;
      // Sweeps go on, so the log may too; what there was at the end of the load, everybody has to have seen.
      await expect
        .poll(() => Math.min(...watchers.map(({ reached }) => reached())), { timeout: 30_000 })
        .toBeGreaterThanOrEqual(end);
      // Streams are open still. On a slow machine it may take servers longer to end than they have, and they say so.
      await fleet.stop();
      watching.abort();

      const stored = await database.read();
      const histories = watchers.map(({ history }) => history);
      expect(flawsOfRun(ledger, stored, { histories, through: end }).slice(0, 20)).toEqual([]);
      await using snapshot = await openSnapshot({ url: database.url, directory: '' });
      expect((await check(snapshot)).flaws.slice(0, 20)).toEqual([]);
      // It was a run worth looking at.
      expect(load.length).toBeGreaterThan(200);
      expect(fleet.kills).toBeGreaterThan(1);
      expect(ledger.granted.length).toBeGreaterThan(load_s * 5);
      const endings = new Set([...stored.tables.leases.values()].map(({ ending }) => ending));
      expect([...endings]).toEqual(expect.arrayContaining(['released', 'revoked']));
      const complaints = fleet.complaints
        .split('\n')
        .filter((line) => line !== '' && !line.includes('not closed within'));
      expect(complaints).toEqual([]);
    },
  );
});
