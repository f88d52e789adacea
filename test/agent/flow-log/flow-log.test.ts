import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EndedBatch } from '../../../src/agent/fish/operations.ts';
import { FlowLogKeeper } from '../../../src/agent/flow-log/flow-log-keeper.ts';
import { KeptFlowLog, withKept } from '../../../src/agent/flow-log/kept-flow-log.ts';
import type { FlowAnswer, FlowLogCursor } from '../../../src/fish/log/flow-log.ts';
import { block, client, client6, connect, finish, origin, origin6, Pond } from '../../support/fish.ts';
import { tcp, type Endpoint } from '../../support/packets.ts';

const blocks = [
  block('198.51.100.10', 'tcp', 9_088, 9_215, { lease: 'lease-1' }),
  block('2001:db8:1::10', 'tcp', 9_088, 9_215, { lease: 'lease-2' }),
];
const limits = { retention_s: 1_000_000, bytes_max: 1_048_576 };

let folder: string;
let pond: Pond;
let cursor: FlowLogCursor;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-flows-'));
  pond = new Pond(blocks, { flowLogMax: 4, flowsMax: 256, timers: { tcpRestS: 0 } });
  cursor = { flows: 0, blurs: 0 };
});
const opened: KeptFlowLog[] = [];
afterEach(async () => {
  for (const kept of opened.splice(0)) await kept.close();
  lastWords.length = 0;
  rmSync(folder, { recursive: true, force: true });
});
const lastWords: EndedBatch[] = [];

const open = (more: Partial<typeof limits> = {}, place = folder) => {
  const kept = new KeptFlowLog(place, { ...limits, ...more }, () => pond.at(pond.nowMs / 1_000));
  kept.begin();
  opened.push(kept);
  return kept;
};
/** A connection that begins and ends ten seconds later; where it was seen to come from. */
function connection(from: Endpoint = client, to: Endpoint = origin): Endpoint {
  const leased = connect(pond, from, to);
  pond.pass(10);
  finish(pond, from, to, leased);
  pond.pass(10);
  return leased;
}
const batch = (): EndedBatch => pond.forwarder.endedFlows(cursor, 1_000);
async function write(kept: KeptFlowLog): Promise<void> {
  const read = batch();
  await kept.append(read);
  cursor = read.next;
}
/** A new process with the memory of the old one, which has a new log. */
function restart(): void {
  pond.pass(5);
  pond.restart();
  cursor = { flows: 0, blurs: 0 };
}
async function ask(kept: KeptFlowLog, { address, port }: Endpoint, at: number): Promise<FlowAnswer> {
  const query = { protocol: 'tcp', address: address as never, port, remote: null, remotePort: null, at } as const;
  const inMemory = pond.forwarder.whoHad(query, pond.nowMs, 10);
  const found = await kept.search(query, inMemory.marginUs, 10);
  return withKept(inMemory, found, { since: kept.coversSince(at, inMemory.marginUs), at, max: 10 });
}

describe('the flow log on disk', () => {
  test('tells what memory has forgotten, of both families, and each flow once', async () => {
    const kept = open();
    const first = connection();
    const second = connection(client6, origin6);
    for (let i = 0; i < 4; i++) {
      await write(kept);
      connection({ ...client, port: 50_000 + i });
    }
    await write(kept);
    expect(await ask(kept, first, pond.at(5))).toMatchObject({
      verdict: 'match',
      matches: [
        {
          ...{ lease: 'lease-1', protocol: 'tcp', client: client.address, clientPort: client.port },
          ...{ remote: origin.address, remotePort: origin.port, ending: 'finished' },
          ...{ openedAt: pond.at(0), closedAt: pond.at(10) },
        },
      ],
      coversSince: pond.at(0),
    });
    expect(await ask(kept, second, pond.at(25))).toMatchObject({
      matches: [{ lease: 'lease-2', client: client6.address, address: '2001:db8:1::10', remote: origin6.address }],
    });
    expect((await ask(kept, first, pond.at(15))).verdict).toBe('not_mine');
    const latest = pond.forwarder.endedFlows(cursor, 1).next.flows;
    expect(kept.written).toBe(latest);
    const last = connection({ ...client, port: 60_000 });
    await write(kept);
    expect((await ask(kept, last, pond.at(pond.nowMs / 1_000 - 15))).matches).toHaveLength(1);
  });

  test('reaches back over a stop after which nothing is missing', async () => {
    const before = open();
    const over = connection();
    const lasting = connect(pond, client, { ...origin, port: 8_443 });
    await write(before);
    await before.end(pond.forwarder.endedFlows(cursor, 1).live);
    await before.close();
    restart();
    const after = open();
    // Until it is known what was taken over, nothing is.
    expect(after.coversSince(pond.at(5), 0)).toBe(Infinity);
    await write(after);
    expect(await ask(after, over, pond.at(5))).toMatchObject({ verdict: 'match', coversSince: pond.at(0) });
    expect(await ask(after, { ...over, port: 9_100 }, pond.at(5))).toMatchObject({ verdict: 'not_mine' });
    expect((await ask(after, lasting, pond.at(22))).matches).toMatchObject([{ closedAt: null }]);
  });

  test('does not after a kill, though what it has is told', async () => {
    const before = open();
    const over = connection();
    await write(before);
    await before.close();
    restart();
    const after = open();
    await write(after);
    expect(await ask(after, over, pond.at(5))).toMatchObject({ verdict: 'match', coversSince: pond.at(25) });
    expect((await ask(after, { ...over, port: 9_100 }, pond.at(5))).verdict).toBe('not_covered');
  });

  test('does not when other flows last than those that were left', async () => {
    const before = open();
    connection();
    await write(before);
    await before.end(1);
    await before.close();
    restart();
    const after = open();
    await write(after);
    expect(after.coversSince(pond.at(5), 0)).toBe(pond.at(25));
  });

  test('believes a last word once: a kill after it is a gap', async () => {
    const first = open();
    connection();
    await write(first);
    await first.end(0);
    await first.close();
    await open().close();
    const third = open();
    restart();
    await write(third);
    expect(third.coversSince(pond.at(5), 0)).toBe(pond.at(25));
  });

  test('goes on behind what was torn off', async () => {
    const before = open();
    const over = connection();
    await write(before);
    await before.close();
    const [name = ''] = readdirSync(folder);
    const whole = statSync(join(folder, name)).size;
    appendFileSync(join(folder, name), Buffer.from('FFL1 that is not whole, as of a host without power'));
    const after = open();
    expect(statSync(join(folder, name)).size).toBe(whole);
    const next = connection();
    await write(after);
    for (const [leased, at] of [
      [over, 5],
      [next, 25],
    ] as const)
      expect((await ask(after, leased, pond.at(at))).matches).toHaveLength(1);
  });

  test('forgets what is too old, and says that it does', async () => {
    const kept = open({ retention_s: 100 });
    const leased = connection();
    await write(kept);
    pond.pass(109);
    connection({ ...client, port: 50_000 });
    await write(kept);
    pond.pass(10);
    await kept.tidy();
    expect(readdirSync(folder)).toHaveLength(1);
    const query = { protocol: 'tcp', address: leased.address as never, port: leased.port } as const;
    expect(await kept.search({ ...query, remote: null, remotePort: null, at: pond.at(5) }, 0, 10)).toEqual([]);
    expect(kept.coversSince(pond.at(5), 0)).toBe(pond.at(pond.nowMs / 1_000 - 100));
  });

  test('has no more bytes than it may, and reaches back as far as they do', async () => {
    const kept = open({ bytes_max: 131_072 });
    for (let i = 0; i < 2_000; i++) {
      connection({ ...client, port: 1_024 + i });
      if (i % 4 === 3) await write(kept);
      if (i % 100 === 99) await kept.tidy();
    }
    expect(kept.bytes).toBeLessThanOrEqual(131_072);
    expect(kept.missed).toBe(0);
    const since = kept.coversSince(pond.at(0), 0);
    expect(since).toBeGreaterThan(pond.at(0));
    expect(since).toBeLessThan(pond.at(pond.nowMs / 1_000));
  });

  test('knows of flows that memory forgot before they were written', async () => {
    const kept = open();
    await write(kept);
    for (let i = 0; i < 6; i++) connection({ ...client, port: 50_000 + i });
    await write(kept);
    expect(kept.missed).toBe(2);
    // The second of them ended at 30 s.
    expect(kept.coversSince(pond.at(5), 0)).toBe(pond.at(30) + 1);
  });

  test('remembers over a restart when instants could not be told', async () => {
    const before = open();
    connection();
    pond.forwarder.blur(pond.at(3), pond.at(6));
    await write(before);
    await before.end(0);
    await before.close();
    restart();
    const after = open();
    await write(after);
    expect(after.coversSince(pond.at(4), 0)).toBe(pond.at(6) + 1);
    expect(after.coversSince(pond.at(7), 0)).toBe(pond.at(0));
  });
});

describe('the keeper of the flow log', () => {
  const errors: string[] = [];
  const log = { error: (said: string) => void errors.push(said), info: () => {} };
  const fish = {
    endedFlows: (after: FlowLogCursor) => Promise.resolve(pond.forwarder.endedFlows(after, 1_000)),
    lastWords,
  };
  const query = (leased: Endpoint, at: number) =>
    ({
      protocol: 'tcp',
      address: leased.address as never,
      port: leased.port,
      remote: null,
      remotePort: null,
      at,
    }) as const;

  test('writes what ends by itself, and completes an answer from it', async () => {
    const kept = open();
    const keeper = new FlowLogKeeper(kept, fish, log as never);
    const leased = connection();
    await expect.poll(() => kept.written, { timeout: 10_000 }).toBe(1);
    for (let i = 0; i < 5; i++) {
      connection({ ...client, port: 50_000 + i });
      await keeper.complete(
        query(leased, pond.at(5)),
        pond.forwarder.whoHad(query(leased, pond.at(5)), pond.nowMs, 10),
        10,
      );
    }
    const inMemory = pond.forwarder.whoHad(query(leased, pond.at(5)), pond.nowMs, 10);
    expect(inMemory.verdict).toBe('not_covered');
    const answer = await keeper.complete(query(leased, pond.at(5)), inMemory, 10);
    expect(answer).toMatchObject({ verdict: 'match', coversSince: pond.at(0) });
    await keeper.end();
  });

  test('goes on without the disk, says so once, and writes all of it when the disk is there again', async () => {
    const place = join(folder, 'flows');
    const kept = open({}, place);
    rmSync(place, { recursive: true });
    errors.length = 0;
    const leased = connection();
    const keeper = new FlowLogKeeper(kept, fish, log as never);
    await expect.poll(() => keeper.writeFailures, { timeout: 10_000 }).toBeGreaterThan(1);
    expect(errors).toEqual([expect.stringContaining('cannot be written to disk: ENOENT')]);
    expect(keeper.stats()).toMatchObject({ flow_log_disk_flows_written: 0 });
    expect((await keeper.complete(query(leased, pond.at(5)), batchAnswer(leased), 10)).verdict).toBe('match');
    // A folder of the same name, by another way than the log's own.
    const again = new KeptFlowLog(place, limits, () => 0);
    await again.close();
    await expect.poll(() => kept.written, { timeout: 10_000 }).toBe(1);
    expect(keeper.problem).toBeNull();
    await keeper.end();
  });
  const batchAnswer = (leased: Endpoint) => pond.forwarder.whoHad(query(leased, pond.at(5)), pond.nowMs, 10);

  test('writes the last words of a thread, without what it has already, and then its own', async () => {
    const kept = open();
    const keeper = new FlowLogKeeper(kept, fish, log as never);
    connection();
    await expect.poll(() => kept.written, { timeout: 10_000 }).toBe(1);
    connection({ ...client, port: 50_000 });
    pond.send(tcp(client, origin, 'S'));
    lastWords.push(pond.forwarder.endedFlows({ flows: 0, blurs: 0 }, 1_000));
    await keeper.end();
    expect(kept.written).toBe(2);
    await kept.close();
    restart();
    const after = open();
    await write(after);
    expect(after.coversSince(pond.at(5), 0)).toBe(pond.at(0));
  });
});
