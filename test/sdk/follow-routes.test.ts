import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FisheryClient, followRoutes, type FollowedRoutes } from '../../src/sdk/index.ts';
import { RouteChange, RouteSnapshot } from '../../src/wire/routes.ts';
import { RealServer } from '../support/real-server.ts';
import { inTurn, json, problem, ScriptedServer, stream, type Answer } from '../support/scripted-server.ts';

const at = '2026-01-31T14:03:07.000000Z';
const machineChange = (revision: number) => ({
  event: 'change',
  id: revision,
  data: { kind: 'machine', revision, at, machine: 'm', mark: 1, next_hops: [] },
});
const nameOf = (item: FollowedRoutes): string =>
  item.type === 'snapshot'
    ? `snapshot ${item.snapshot.revision}`
    : `${item.type} ${item.type === 'change' ? item.change.revision : item.revision}`;

describe('following the routes', () => {
  let server: RealServer;
  beforeAll(async () => {
    server = await RealServer.start();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it('carries a slice from its assignment through the router to its machine, and back', async () => {
    const { client } = server;
    await client.routers.put('north', { labels: { site: 'fra1' } });
    const routers = { select: 'site=fra1', policy: 'all' } as const;
    const cooldown_s = { tcp: 0, udp: 0, icmp: 0 };
    await client.pools.create({ id: 'p', prefixes: ['198.51.100.0/30'], routers, cooldown_s });
    await client.machines.create({ id: 'm', enforcement: 'none', mark: 257, next_hops: ['192.0.2.11'] });
    const { secret } = await client.tokens.create({ name: 'north', role: 'router', router: 'north' });
    const own = new FisheryClient({ url: server.url, token: secret });
    const { slices } = await client.slices.assign({ machine: 'm', pool: 'p' });
    const slice = slices[0]?.id ?? '';
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const item of followRoutes(own, { pool: 'p' }, { signal: stop.signal })) {
      if (item.type === 'snapshot') expect(RouteSnapshot.parse(item.snapshot).routes[0]?.mark).toBe(257);
      if (item.type === 'change') expect(RouteChange.parse(item.change)).toEqual(item.change);
      const reached =
        item.type === 'snapshot'
          ? item.snapshot.revision
          : item.type === 'change'
            ? item.change.revision
            : item.revision;
      await own.routers.applied('north', { revision: reached });
      const { state } = await client.slices.get(slice);
      if (state !== seen.at(-1)) seen.push(state);
      if (state === 'assigned') await client.slices.drain(await client.slices.get(slice));
      if (state === 'free') stop.abort();
    }
    expect(seen.filter((state) => state !== 'draining' && state !== 'cooling')).toEqual(['assigned', 'free']);
  });

  it('takes a new snapshot when the server asks for one, and resumes otherwise', async () => {
    const routes = (revision: number) => json({ epoch: 'e', revision, routes: [] });
    const snapshots = inTurn(routes(10), routes(20));
    const breaking: Answer = (request, response) => {
      stream(machineChange(12))(request, response);
      setTimeout(() => response.destroy(), 20);
    };
    const watches = inTurn(
      breaking,
      stream({ event: 'compacted', data: { oldest_revision: 19 } }),
      stream(machineChange(22)),
    );
    await using scripted = await ScriptedServer.start((request, response) =>
      (request.path.endsWith('/watch') ? watches : snapshots)(request, response),
    );
    const client = new FisheryClient({ url: scripted.url, token: 't' });
    const seen: string[] = [];
    for await (const item of followRoutes(
      client,
      { machine: 'm' },
      { random: () => 0, signal: AbortSignal.timeout(8_000) },
    )) {
      seen.push(nameOf(item));
      if (seen.length === 4) break;
    }
    expect(seen).toEqual(['snapshot 10', 'change 12', 'snapshot 20', 'change 22']);
    const watched = scripted.seen.filter(({ path }) => path.endsWith('/watch'));
    expect(watched.map(({ query }) => `${query['machine']} ${query['from']}`)).toEqual(['m 10', 'm 12', 'm 20']);
  });

  it('ends with the refusal of a router that is no more', async () => {
    await using scripted = await ScriptedServer.start(problem(403, 'not_yours'));
    const client = new FisheryClient({ url: scripted.url, token: 't', attemptsMax: 1 });
    await expect(followRoutes(client).next()).rejects.toMatchObject({ code: 'not_yours' });
  });
});
