import { describe, expect, it } from 'vitest';
import { FisheryClient } from '../../src/sdk/index.ts';
import { SeenByUs } from '../../src/sdk/seen.ts';

const answer = (epoch?: string, revision?: string) =>
  new Headers({
    ...(epoch === undefined ? {} : { 'fishery-epoch': epoch }),
    ...(revision === undefined ? {} : { 'fishery-revision': revision }),
  });

describe('what a client has seen', () => {
  it('is the highest revision of the epoch that it was told last', () => {
    const seen = new SeenByUs();
    expect(seen.header).toEqual({});
    const story: readonly (readonly [Headers, string])[] = [
      [answer('a', '5'), 'a/5'],
      [answer('a', '3'), 'a/5'],
      [answer('a', '9'), 'a/9'],
      [answer(), 'a/9'],
      [answer('a', 'nonsense'), 'a/9'],
      [answer('b', '2'), 'b/2'],
    ];
    for (const [headers, shows] of story) {
      seen.note(headers);
      expect(seen.header).toEqual({ 'fishery-seen': shows });
    }
    seen.reach(7);
    seen.reach(6);
    expect(seen.latest).toEqual({ epoch: 'b', revision: 7 });
  });

  it('goes with every call, refusals and reconnections included', async () => {
    const presented: (string | null)[] = [];
    const fetchOf = async (_url: unknown, init?: RequestInit) => {
      presented.push(new Headers(init?.headers).get('fishery-seen'));
      const refused = presented.length === 2;
      return new Response(JSON.stringify(refused ? { code: 'pool_not_found', title: 'No such pool' } : {}), {
        status: refused ? 404 : 200,
        headers: {
          'content-type': refused ? 'application/problem+json' : 'application/json',
          ...Object.fromEntries(answer('e', String(10 * presented.length))),
        },
      });
    };
    const client = new FisheryClient({ url: 'http://127.0.0.1:1', token: 't', fetch: fetchOf });
    await client.pools.list();
    await client.pools.get('x').catch(() => {});
    client.reached(25);
    await client.pools.list();
    await client.agent.watch('m', 0, new AbortController().signal).catch(() => {});
    expect(presented).toEqual([null, 'e/10', 'e/25', 'e/30']);
  });
});
