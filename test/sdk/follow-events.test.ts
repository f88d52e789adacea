import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FisheryClient, followEvents, type FollowedEvents } from '../../src/sdk/index.ts';
import { RealServer } from '../support/real-server.ts';
import { inTurn, json, problem, ScriptedServer, stream, type Answer } from '../support/scripted-server.ts';

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

const nameOf = (item: FollowedEvents): string =>
  item.type === 'change' ? `${item.change.kind} ${item.change.revision}` : `bookmark ${item.revision}`;

describe('following the log', () => {
  it('tells what happened since, and what happens, as the pages have it', async () => {
    const { client } = server;
    const { revision: from } = await client.server.readiness();
    await client.machines.create({ id: 'm', enforcement: 'none' });
    const seen: unknown[] = [];
    for await (const item of followEvents(client, {}, { from, signal: AbortSignal.timeout(8_000) })) {
      if (item.type === 'change') seen.push(item.change);
      else if (seen.length === 1) await client.machines.putHolder('m', 'web', { kind: 'proxy', uid: 1_000 });
      if (seen.length === 2) break;
    }
    expect(seen).toEqual((await client.events({ after: from })).events);
    expect(client.seen?.revision).toBe(from + 2);
  });

  it('begins now when it is not told from where, and tells only what is asked for', async () => {
    const { client } = server;
    const filter = { kind: 'router,machine', machine: 'n' };
    const seen: FollowedEvents[] = [];
    for await (const item of followEvents(client, filter, { signal: AbortSignal.timeout(8_000) })) {
      if (seen.push(item) === 1) {
        await client.routers.put('r');
        await client.machines.create({ id: 'other', enforcement: 'none' });
        await client.machines.create({ id: 'n', enforcement: 'none' });
      }
      if (item.type === 'change') break;
    }
    expect(seen[0]?.type).toBe('bookmark');
    const { events } = await client.events(filter);
    expect(events).toMatchObject([{ kind: 'machine', machine: { id: 'n' } }]);
    expect(seen.at(-1)).toEqual({ type: 'change', change: events[0] });
  });

  it('goes on after the last that it saw, and repeats nothing', async () => {
    const change = (revision: number) => ({ event: 'change', id: revision, data: { kind: 'lease', revision } });
    const breaking: Answer = (request, response) => {
      stream(change(12), { event: 'bookmark', data: { revision: 14 } })(request, response);
      setTimeout(() => response.destroy(), 20);
    };
    await using scripted = await ScriptedServer.start(inTurn(breaking, stream(change(14), change(15))));
    const client = new FisheryClient({ url: scripted.url, token: 't' });
    const seen: string[] = [];
    for await (const item of followEvents(client, {}, { from: 11, random: () => 0 }))
      if (seen.push(nameOf(item)) === 3) break;
    expect(seen).toEqual(['lease 12', 'bookmark 14', 'lease 15']);
    expect(scripted.seen.map(({ query }) => query['after'])).toEqual(['11', '14']);
  });

  it.each([
    ['what comes next is no longer kept', 410, 'compacted'],
    ['what it saw was lost', 409, 'revision_unknown'],
  ])('ends where %s', async (_why, status, code) => {
    const compacted = stream({ event: 'compacted', data: { oldest_revision: 19 } });
    await using scripted = await ScriptedServer.start((request, response) =>
      (request.path.endsWith('/watch') ? compacted : problem(status, code))(request, response),
    );
    const client = new FisheryClient({ url: scripted.url, token: 't' });
    await expect(followEvents(client, {}, { from: 7 }).next()).rejects.toMatchObject({ code });
    expect(scripted.seen.at(-1)).toMatchObject({ path: '/v1/events', query: { after: '7' } });
  });

  it('takes no gap for granted when the server knows of none', async () => {
    const watches = inTurn(
      stream({ event: 'compacted', data: { oldest_revision: 8 } }),
      stream({ event: 'bookmark', data: { revision: 9 } }),
    );
    await using scripted = await ScriptedServer.start((request, response) =>
      (request.path.endsWith('/watch') ? watches : json({ events: [], next_after: 9, revision: 9 }))(request, response),
    );
    const client = new FisheryClient({ url: scripted.url, token: 't' });
    expect((await followEvents(client, {}, { from: 7 }).next()).value).toEqual({ type: 'bookmark', revision: 9 });
  });
});
