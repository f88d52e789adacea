import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Pipes } from '../../src/terminate/pipes.ts';
import { relay, type RelayedBytes, type RelayEnd, type RelayLimits } from '../../src/terminate/relay.ts';
import { destroyLost, reset } from '../../src/terminate/sockets.ts';
import { hearing, tcpPair, type TcpPair } from '../support/tcp-pair.ts';

const patient: RelayLimits = { idle_timeout_s: 600, half_closed_timeout_s: 600 };
/** More than the kernel takes for two connections. */
const much = Buffer.alloc(64 * 1_024 * 1_024, 'x');

const pairs: TcpPair[] = [];
afterEach(() => {
  for (const { near, far } of pairs.splice(0)) for (const each of [near, far]) reset(each);
});

/** A client and an origin with a relay between them, and how that ended. */
async function related(
  limits = patient,
): Promise<Readonly<{ client: TcpPair; origin: TcpPair; ends: readonly RelayEnd[]; bytes: () => RelayedBytes }>> {
  const [client, origin] = [await tcpPair(), await tcpPair()];
  pairs.push(client, origin);
  const ends: RelayEnd[] = [];
  const bytes = relay(client.near, origin.near, { limits, pipes: new Pipes(), done: (end) => ends.push(end) });
  return { client, origin, ends, bytes };
}

const sides = ['client', 'origin'] as const;
const otherOf = (side: 'client' | 'origin') => (side === 'client' ? 'origin' : 'client');

/** Waits until no more is taken from this socket, as the other side takes none. */
async function full({ near }: TcpPair): Promise<void> {
  let last = -1;
  await expect
    .poll(async () => {
      const before = near.bytesRead;
      await sleep(50);
      const isStill = near.bytesRead === before && before === last && near.isPaused();
      last = near.bytesRead;
      return isStill;
    })
    .toBe(true);
}

describe('a relay, when one side resets', () => {
  it.each(sides)('tells the other side so, whichever it is: %s', async (side) => {
    const both = await related();
    both[side].far.resetAndDestroy();
    await expect.poll(() => both[otherOf(side)].heard).toMatchObject({ ended: false, error: 'ECONNRESET' });
    expect(both.ends).toEqual([`${side}_resets`]);
  });

  it.each(sides)('tells the other side so that reads nothing, also when all buffers are full: %s', async (side) => {
    const both = await related();
    const other = both[otherOf(side)];
    other.far.pause();
    both[side].far.write(much);
    await full(both[side]);
    both[side].far.resetAndDestroy();
    // It is found by looking: the event loop does not hear of it.
    await expect
      .poll(() => {
        destroyLost([both.client.near, both.origin.near]);
        return both.ends;
      })
      .toEqual([`${side}_resets`]);
    other.far.resume();
    await expect.poll(() => other.heard).toMatchObject({ ended: false, closed: true, error: 'ECONNRESET' });
  });

  it.each(sides)('tells the other side so, when the one had said already that it is done: %s', async (side) => {
    const both = await related();
    const other = both[otherOf(side)];
    both[side].far.end('all');
    await expect.poll(() => other.heard).toMatchObject({ text: 'all', ended: true });
    both[side].far.resetAndDestroy();
    await expect
      .poll(() => {
        destroyLost([both.client.near, both.origin.near]);
        return both.ends;
      })
      .toEqual([`${side}_resets`]);
    // Nor does the other side's, before it says something.
    other.far.write('more');
    await expect.poll(() => other.heard.error).toBe('EPIPE');
  });
});

describe('a relay whose one side reads nothing', () => {
  it('leaves it alone, also when both have said that they are done, until all has arrived', async () => {
    const { client, origin, ends } = await related();
    origin.far.pause();
    origin.far.end();
    client.far.end(much);
    await full(client);
    for (let i = 0; i < 5; i++) {
      destroyLost([client.near, origin.near]);
      await sleep(20);
    }
    expect(ends).toEqual([]);
    origin.far.resume();
    await expect.poll(() => origin.heard).toMatchObject({ received: much.length, ended: true, error: null });
    await expect.poll(() => ends).toEqual(['finished']);
    expect(client.heard).toMatchObject({ ended: true, error: null });
  });
});

const untilExit = (child: ChildProcess) => {
  const gone = new AbortController();
  child.once('exit', () => gone.abort());
  return gone.signal;
};

it('a relay whose process is killed resets whoever has not got everything yet, whatever the other side has said', async () => {
  const accepted: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const child = fork(join(import.meta.dirname, '../support/relay-process.ts'), [
    String((server.address() as AddressInfo).port),
  ]);
  try {
    const [port] = (await once(child, 'message', { signal: untilExit(child) })) as [number];
    const through = async () => {
      const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      await once(server, 'connection');
      const origin = accepted.at(-1)!;
      return { client, origin, ofClient: hearing(client), ofOrigin: hearing(origin) };
    };
    const both = await through();
    both.client.write('some');
    await expect.poll(() => both.ofOrigin.text).toBe('some');

    const download = await through();
    download.client.end('request');
    download.origin.write('a part');
    await expect.poll(() => [download.ofClient.text, download.ofOrigin.ended]).toEqual(['a part', true]);

    const upload = await through();
    upload.origin.end('no need');
    upload.client.write('a part');
    await expect.poll(() => [upload.ofOrigin.text, upload.ofClient.ended]).toEqual(['a part', true]);

    // Both are done, and half of what the one has said is in the relay.
    const rest = await through();
    rest.origin.pause();
    rest.origin.end();
    await expect.poll(() => rest.ofClient.ended).toBe(true);
    rest.client.end(Buffer.alloc(10 * 1_024 * 1_024));
    await sleep(100);

    const over = await through();
    over.client.end('request');
    over.origin.end('answer');
    await expect.poll(() => [over.ofClient.closed, over.ofOrigin.closed]).toEqual([true, true]);

    child.kill('SIGKILL');
    const cut = { ended: false, closed: true, error: 'ECONNRESET' };
    await expect.poll(() => [both.ofClient, both.ofOrigin]).toMatchObject([cut, cut]);
    await expect.poll(() => download.ofClient).toMatchObject({ ...cut, text: 'a part' });
    await expect.poll(() => upload.ofOrigin).toMatchObject({ ...cut, text: 'a part' });
    rest.origin.resume();
    await expect.poll(() => rest.ofOrigin).toMatchObject(cut);
    const complete = { ended: true, error: null };
    expect([over.ofClient, over.ofOrigin]).toMatchObject([complete, complete]);
    for (const { client, origin } of [download, upload, rest]) for (const each of [client, origin]) reset(each);
  } finally {
    child.kill('SIGKILL');
    server.close();
  }
});
