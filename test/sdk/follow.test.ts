import { describe, expect, it } from 'vitest';
import { FisheryClient, follow, type Followed, type FollowOptions } from '../../src/sdk/index.ts';
import {
  hangUp,
  inTurn,
  json,
  problem,
  ScriptedServer,
  silence,
  stream,
  type Answer,
  type StreamedEvent,
} from '../support/scripted-server.ts';

const at = '2026-01-31T14:03:07.000000Z';
const change = (revision: number) => ({
  event: 'change',
  id: revision,
  data: { kind: 'machine', revision, at, machine: 'm', fence_s: 30, state: 'active' },
});
const bookmark = (revision: number) => ({ event: 'bookmark', data: { revision } });
const desired = (revision: number) =>
  json({ epoch: 'e', revision, machine: 'm', fence_s: 30, pools: [], slices: [], holders: [], leases: [] });

/** One script for the snapshots, one for the streams. */
const serve =
  (snapshots: Answer, watches: Answer): Answer =>
  (request, response) =>
    (request.path.endsWith('/desired') ? snapshots : watches)(request, response);

/** Streams these events and then breaks the connection. */
const streamAndBreak =
  (...events: StreamedEvent[]): Answer =>
  (request, response) => {
    stream(...events)(request, response);
    setTimeout(() => response.destroy(), 20);
  };

const nameOf = (event: Followed): string => {
  if (event.type === 'snapshot') return `snapshot ${event.desired.revision}`;
  if (event.type === 'change') return `change ${event.change.revision}`;
  if (event.type === 'bookmark') return `bookmark ${event.revision}`;
  return event.type === 'query' ? `query ${event.query.id}` : `request ${event.request.id}`;
};

/** Follows until so many events came, then stops as a caller would. */
async function take(count: number, server: ScriptedServer, options: FollowOptions = {}): Promise<string[]> {
  const client = new FisheryClient({ url: server.url, token: 't', attemptsMax: 1 });
  const seen: string[] = [];
  const bounded = AbortSignal.timeout(8_000);
  for await (const event of follow(client, 'm', { random: () => 0, signal: bounded, ...options })) {
    seen.push(nameOf(event));
    if (seen.length === count) return seen;
  }
  throw new Error(`followed no further than ${seen.join(', ')}`);
}

const watchedFrom = (server: ScriptedServer) =>
  server.seen.filter(({ path }) => path.endsWith('/watch')).map(({ query }) => query['from']);

describe('following a machine', () => {
  it('takes a snapshot and then the changes after it', async () => {
    await using server = await ScriptedServer.start(
      serve(
        desired(10),
        stream(
          change(12),
          bookmark(14),
          { event: 'query', data: { id: 'q1' } },
          { event: 'request', data: { id: 'r1' } },
        ),
      ),
    );
    expect(await take(5, server)).toEqual(['snapshot 10', 'change 12', 'bookmark 14', 'query q1', 'request r1']);
    expect(watchedFrom(server)).toEqual(['10']);
  });

  it('resumes a broken stream from the last revision, without a gap and without a second snapshot', async () => {
    await using server = await ScriptedServer.start(
      serve(desired(10), inTurn(streamAndBreak(change(11), change(12)), hangUp, stream(change(13)))),
    );
    expect(await take(4, server)).toEqual(['snapshot 10', 'change 11', 'change 12', 'change 13']);
    expect(watchedFrom(server)).toEqual(['10', '12', '12']);
  });

  it('resumes from a bookmark too', async () => {
    await using server = await ScriptedServer.start(
      serve(desired(10), inTurn(streamAndBreak(bookmark(40)), stream(change(41)))),
    );
    expect(await take(3, server)).toEqual(['snapshot 10', 'bookmark 40', 'change 41']);
    expect(watchedFrom(server)).toEqual(['10', '40']);
  });

  it('does not pass on twice what a server repeats', async () => {
    await using server = await ScriptedServer.start(
      serve(desired(10), inTurn(streamAndBreak(change(11), change(12)), stream(change(11), change(12), change(13)))),
    );
    expect(await take(4, server)).toEqual(['snapshot 10', 'change 11', 'change 12', 'change 13']);
  });

  it('takes a new snapshot when the server no longer has the changes in between', async () => {
    await using server = await ScriptedServer.start(
      serve(
        inTurn(desired(10), desired(90)),
        inTurn(stream({ event: 'compacted', data: { oldest_revision: 80 } }), stream(change(91))),
      ),
    );
    expect(await take(3, server)).toEqual(['snapshot 10', 'snapshot 90', 'change 91']);
    expect(watchedFrom(server)).toEqual(['10', '90']);
  });

  it('starts where the caller already is, without a snapshot', async () => {
    await using server = await ScriptedServer.start(serve(desired(10), stream(change(8))));
    expect(await take(1, server, { from: 7 })).toEqual(['change 8']);
    expect(server.seen.map(({ path }) => path)).toEqual(['/v1/machines/m/watch']);
  });

  it('takes a stream that has fallen silent for dead', async () => {
    await using server = await ScriptedServer.start(serve(desired(10), inTurn(stream(change(11)), stream(change(12)))));
    const trouble: string[] = [];
    const onTrouble: FollowOptions['onTrouble'] = (error) => trouble.push(error.message);
    expect(await take(3, server, { silenceMs: 100, onTrouble })).toEqual(['snapshot 10', 'change 11', 'change 12']);
    expect(trouble).toEqual(['watch of m after revision 11: nothing was heard for 100 ms']);
  });

  it('is kept awake by comments alone', async () => {
    const chatty: Answer = (request, response) => {
      stream(change(11))(request, response);
      const beat = setInterval(() => response.write(': still here\n\n'), 20);
      setTimeout(() => {
        clearInterval(beat);
        response.write('event: bookmark\ndata: {"revision":12}\n\n');
      }, 400);
    };
    await using server = await ScriptedServer.start(serve(desired(10), chatty));
    expect(await take(3, server, { silenceMs: 200 })).toEqual(['snapshot 10', 'change 11', 'bookmark 12']);
    expect(watchedFrom(server)).toEqual(['10']);
  });

  it('skips events that only a newer server sends', async () => {
    await using server = await ScriptedServer.start(
      serve(desired(10), stream({ event: 'weather', data: 'fine' }, change(11))),
    );
    expect(await take(2, server)).toEqual(['snapshot 10', 'change 11']);
  });

  it('drops a connection that talks nonsense and resumes', async () => {
    await using server = await ScriptedServer.start(
      serve(desired(10), inTurn(stream({ event: 'change', data: 'nonsense' }), stream(change(11)))),
    );
    expect(await take(2, server)).toEqual(['snapshot 10', 'change 11']);
  });

  it('waits for a server that is away, also for its first snapshot', async () => {
    await using server = await ScriptedServer.start(
      serve(inTurn(hangUp, problem(503, 'overloaded'), desired(10)), stream(change(11))),
    );
    expect(await take(2, server)).toEqual(['snapshot 10', 'change 11']);
  });

  it.each([
    [404, 'machine_not_found'],
    [401, 'unauthenticated'],
  ])('throws when the server refuses for good (%i)', async (status, code) => {
    await using server = await ScriptedServer.start(serve(desired(10), problem(status, code)));
    await expect(take(9, server)).rejects.toMatchObject({ name: 'FisheryError', code });
  });

  it.each([
    ['while it waits for the stream', serve(desired(10), silence)],
    ['while the stream is quiet', serve(desired(10), stream())],
    ['while it waits between attempts', serve(desired(10), hangUp)],
  ])('returns when the caller aborts %s', async (_name, answer) => {
    await using server = await ScriptedServer.start(answer);
    const client = new FisheryClient({ url: server.url, token: 't', attemptsMax: 1 });
    const controller = new AbortController();
    const seen: string[] = [];
    setTimeout(() => controller.abort(), 150);
    for await (const event of follow(client, 'm', { signal: controller.signal })) seen.push(nameOf(event));
    expect(seen).toEqual(['snapshot 10']);
  });

  it('closes its connection when the caller leaves', async () => {
    let closed = false;
    const noticed: Answer = (request, response) => {
      response.on('close', () => (closed = true));
      stream(change(11))(request, response);
    };
    await using server = await ScriptedServer.start(serve(desired(10), noticed));
    await take(2, server);
    await expect.poll(() => closed).toBe(true);
  });
});
