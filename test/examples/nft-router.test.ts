import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runRouter } from '../../examples/nft-router/router.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import { RealServer } from '../support/real-server.ts';

let server: RealServer;
let stop: AbortController;
let own: FisheryClient;
let files: string[];
let lines: string[];
beforeEach(async () => {
  server = await RealServer.start();
  stop = new AbortController();
  [files, lines] = [[], []];
  const { client } = server;
  await client.routers.put('north');
  const { secret } = await client.tokens.create({ name: 'north', role: 'router', router: 'north' });
  own = new FisheryClient({ url: server.url, token: secret });
  await client.pools.create({ id: 'p', prefixes: ['198.51.100.0/30'], routers: { ids: ['north'], policy: 'all' } });
  await client.machines.create({ id: 'm', enforcement: 'none', mark: 257 });
});
afterEach(async () => {
  stop.abort();
  await server[Symbol.asyncDispose]();
});

const run = (install: (file: string) => Promise<void>) =>
  runRouter({
    ...{ client: own, router: 'north', filter: {}, signal: stop.signal, retry_ms: 10 },
    install: async (file) => {
      await install(file);
      files.push(file);
    },
    log: (line) => void lines.push(line),
  });
const assign = async () => (await server.client.slices.assign({ machine: 'm', pool: 'p' })).slices[0]?.id ?? '';
const stateOf = async (slice: string) => (await server.client.slices.get(slice)).state;

describe('the router in nftables', () => {
  it('puts routes in place, acknowledges them, and says that it lives', async () => {
    const running = run(async () => {});
    const slice = await assign();
    await expect.poll(() => stateOf(slice)).toBe('assigned');
    expect(files.at(-1)).toContain('198.51.100.0 . 2048 : 257');
    const before = (await server.client.routers.get('north')).seen_at;
    await expect.poll(async () => (await server.client.routers.get('north')).seen_at).not.toBe(before);
    // Only for news.
    expect(files.length).toBeLessThan(6);
    stop.abort();
    await running;
  });

  it('acknowledges nothing that could not be put in place, and tries again', async () => {
    let isBroken = true;
    const running = run(async () => {
      if (isBroken) throw new Error('nft refused the file');
    });
    const slice = await assign();
    await expect.poll(() => lines.filter((line) => line.includes('nft refused')).length).toBeGreaterThan(2);
    expect(await stateOf(slice)).toBe('assigning');
    isBroken = false;
    await expect.poll(() => stateOf(slice)).toBe('assigned');
    stop.abort();
    await running;
  });

  it('ends when it is no router any more', async () => {
    const running = run(async () => {});
    await expect.poll(() => files.length).toBeGreaterThan(0);
    await server.client.routers.delete('north');
    // Its token went with it.
    await expect(running).rejects.toMatchObject({ code: 'unauthenticated' });
  });
});
