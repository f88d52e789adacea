import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { EPERM } from '../../src/sys/constants.ts';
import { SplicePipe } from '../../src/sys/splice-pipe.ts';
import { Pipes } from '../../src/terminate/pipes.ts';
import { relay, type RelayedBytes, type RelayEnd } from '../../src/terminate/relay.ts';
import { reset } from '../../src/terminate/sockets.ts';
import { tcpPair, type TcpPair } from '../support/tcp-pair.ts';

const limits = { idle_timeout_s: 600, half_closed_timeout_s: 600 };
const pairs: TcpPair[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  for (const { near, far } of pairs.splice(0)) for (const each of [near, far]) reset(each);
});

type Related = Readonly<{ client: TcpPair; origin: TcpPair; ends: readonly RelayEnd[]; bytes: () => RelayedBytes }>;
async function related(pipes: Pipes): Promise<Related> {
  const [client, origin] = [await tcpPair(), await tcpPair()];
  pairs.push(client, origin);
  const ends: RelayEnd[] = [];
  const bytes = relay(client.near, origin.near, { limits, pipes, done: (end) => ends.push(end) });
  return { client, origin, ends, bytes };
}

/** Writes it in pieces of all sizes, with pauses or none, and ends. */
async function send({ far }: TcpPair, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const size = Math.ceil(Math.random() ** 4 * 3_000_000);
    const isTaken = far.write(bytes.subarray(at, at + size));
    at += size;
    if (!isTaken && Math.random() < 0.5) await new Promise((resolve) => far.once('drain', resolve));
  }
  far.end();
}
/** Its hash when it has ended; it stops reading now and then. */
async function receive({ far }: TcpPair): Promise<string> {
  const hash = createHash('sha256');
  far.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    if (Math.random() > 0.02) return;
    far.pause();
    void sleep(Math.random() * 5).then(() => far.resume());
  });
  await new Promise((resolve) => far.once('end', resolve));
  return hash.digest('hex');
}
const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const much = Buffer.alloc(64 * 1_024 * 1_024, 'x');

describe('what is passed on', () => {
  it.each([
    ['through pipes', new Pipes()],
    ['through one, which is mostly with others', new Pipes(1)],
    ['through none', new Pipes(0)],
  ])('arrives whole and in order, in both directions at once, %s', async (_how, pipes) => {
    const all = await Promise.all([related(pipes), related(pipes)]);
    const up = randomBytes(24 * 1_024 * 1_024 + 17);
    const down = randomBytes(16 * 1_024 * 1_024 + 3);
    for (const { client, origin, ends, bytes } of all) {
      const [atOrigin, atClient] = await Promise.all([
        receive(origin),
        receive(client),
        send(client, up),
        send(origin, down),
      ]);
      expect([atOrigin, atClient]).toEqual([hashOf(up), hashOf(down)]);
      await expect.poll(() => ends).toEqual(['finished']);
      expect(bytes()).toEqual({ up: up.length, down: down.length });
    }
  });

  it('begins with what was read before there was anybody to pass it on to, in several pieces', async () => {
    const [client, origin] = [await tcpPair(), await tcpPair()];
    pairs.push(client, origin);
    const said = randomBytes(1_000_000);
    client.near.read(0);
    client.far.write(said.subarray(0, 40_000));
    await expect.poll(() => client.near.readableLength).toBe(40_000);
    client.far.end(said.subarray(40_000));
    await expect.poll(() => client.near.readableLength).toBeGreaterThan(client.near.readableHighWaterMark);
    const bytes = relay(client.near, origin.near, { limits, pipes: new Pipes(), done: () => {} });
    expect(await receive(origin)).toBe(hashOf(said));
    expect(bytes()).toEqual({ up: said.length, down: 0 });
  });

  it('goes on without pipes where the kernel does not let the process use them', async () => {
    const pull = vi.spyOn(SplicePipe.prototype, 'pull').mockReturnValue(-EPERM);
    const pipes = new Pipes();
    const { client, origin, ends } = await related(pipes);
    client.far.end(much);
    await expect.poll(() => origin.heard).toMatchObject({ received: much.length, ended: true });
    origin.far.end();
    await expect.poll(() => ends).toEqual(['finished']);
    expect(pull).toHaveBeenCalledOnce();
    expect(pipes.take()).toBeUndefined();
    pull.mockRestore();
    expect(pipes.inUse).toBe(0);
  });

  it('is nothing of what a reset has cut short: that never looks complete', async () => {
    const pipes = new Pipes();
    for (let i = 0; i < 10; i++) {
      const { client, origin, ends } = await related(pipes);
      client.far.write(much.subarray(0, 2_000_000 * i));
      await sleep(i);
      client.far.resetAndDestroy();
      await expect.poll(() => ends).toEqual(['client_resets']);
      await expect.poll(() => origin.heard).toMatchObject({ ended: false, error: 'ECONNRESET' });
    }
  });
});

describe('a pipe', () => {
  it('stays with a reader that takes no more, others pass on without it, and it is there again afterwards', async () => {
    const pipes = new Pipes(1);
    const [slow, other] = [await related(pipes), await related(pipes)];
    slow.origin.far.pause();
    slow.client.far.write(much);
    await expect.poll(() => pipes.inUse).toBe(1);
    other.client.far.end(much);
    await expect.poll(() => other.origin.heard).toMatchObject({ received: much.length, ended: true });
    slow.client.far.resetAndDestroy();
    slow.origin.far.resetAndDestroy();
    await expect.poll(() => slow.ends).toHaveLength(1);
    expect(pipes.inUse).toBe(0);
    const again = pipes.take();
    expect(again?.held).toBe(0);
    again?.close();
  });

  it('with something in it is closed, an empty one used again, and there are so many at most', () => {
    const pipes = new Pipes(2);
    const [one, other] = [pipes.take()!, pipes.take()!];
    expect(pipes.take()).toBeUndefined();
    pipes.give(one);
    expect(pipes.take()).toBe(one);
    const close = vi.spyOn(other, 'close');
    other.held = 1;
    pipes.give(other);
    expect(close).toHaveBeenCalledOnce();
    const third = pipes.take();
    expect(third).not.toBe(other);
    third?.close();
    one.close();
  });
});
