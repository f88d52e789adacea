import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { furnished, type Furnished, type Method } from '../support/api-world.ts';
import { documentedOperations } from '../support/openapi-document.ts';

/** What lists have in common, and what their selectors find. */

let f: Furnished;
beforeAll(async () => {
  f = await furnished();
  const { world } = f;
  const make = async (method: Method, url: string, body: object) =>
    expect((await world.call(method, url, { body })).text).not.toContain('"code"');
  await make('POST', '/v1/pools', { id: 'de', prefixes: ['203.0.113.0/28'], labels: { country: 'de', tier: 'a' } });
  await make('POST', '/v1/machines', { id: 'bare', enforcement: 'none', labels: { site: 'cdg1' } });
  for (const name of ['web', 'mail']) await make('PUT', `/v1/machines/bare/holders/${name}`, { kind: 'proxy' });
  await make('POST', '/v1/slices', { machine: 'bare', pool: 'de', count: 3 });
  await make('PUT', '/v1/routers/north', { labels: { site: 'cdg1' } });
  for (const holder of ['web', 'mail']) {
    const { id } = await world.openSession(world.operator, 'bare', holder);
    const claims = [
      { protocol: 'tcp', ports: 4 },
      { protocol: 'tcp', ports: 64, mode: 'shared' },
    ];
    await make('POST', '/v1/leases', { session: id, claims });
  }
  await make('POST', '/v1/revocations', { prefix: '192.0.2.0/24', forced: true, reason: 'test' });
});
afterAll(async () => f.world[Symbol.asyncDispose]());

const AnyPage = z.object({ items: z.array(z.record(z.string(), z.unknown())), next: z.string().nullable() });

/** What a list needs to be asked at all. */
const places: Readonly<Record<string, string>> = { listHolders: '/v1/machines/bare/holders' };
const needs: Readonly<Record<string, string>> = { attributionHistory: 'machine=bare&holder=web&' };
const lists = documentedOperations().filter(({ query }) => query.includes('cursor'));
const urlOf = ({ id, path }: (typeof lists)[number]) => `${places[id] ?? path}?${needs[id] ?? ''}`;

describe('every list', () => {
  it('is known here', () => {
    expect(lists.map(({ id }) => id)).toEqual(
      expect.arrayContaining(['listPools', 'listMachines', 'listLeases', 'listAudit', 'listTokens', 'listRevocations']),
    );
  });

  describe.each(lists)('$id', (list) => {
    const get = async (query: string) => f.world.call('GET', `${urlOf(list)}${query}`);

    it('comes in the same order in pages of any size, nothing twice and nothing left out', async () => {
      const whole = (await get('limit=1000')).as(AnyPage);
      expect(whole.next).toBeNull();
      expect(whole.items.length).toBeGreaterThan(0);
      for (const limit of [1, 2]) {
        const items: unknown[] = [];
        for (let cursor: string | null = ''; cursor !== null;) {
          const page: z.output<typeof AnyPage> = (await get(`limit=${limit}${cursor && `&cursor=${cursor}`}`)).as(
            AnyPage,
          );
          expect(page.items.length).toBeLessThanOrEqual(limit);
          items.push(...page.items);
          cursor = page.next;
        }
        expect(items).toEqual(whole.items);
      }
    });

    it('says how many it gives, and takes no cursor of which it is not the author', async () => {
      for (const [query, path] of [
        ['limit=0', 'query.limit'],
        ['limit=1001', 'query.limit'],
        ['limit=ten', 'query.limit'],
        ['cursor=', 'query.cursor'],
        ['cursor=bm8gY3Vyc29y', 'query.cursor'],
        [`cursor=${'a'.repeat(201)}`, 'query.cursor'],
        ['sort=id', 'query.sort'],
      ] as const) {
        const answer = await get(query);
        expect([query, ...answer.refusal, ...answer.paths]).toEqual([query, 400, 'validation_failed', path]);
      }
    });

    it('refuses selectors that say nothing, or that nobody can read', async () => {
      for (const name of list.query.filter((one) => one.startsWith('select')))
        for (const text of ['', '%3D', 'a%3D%3D%3Db', 'site%20in%20(']) {
          const answer = await get(`${name}=${text}`);
          expect([text, ...answer.refusal, ...answer.paths]).toEqual([text, 400, 'validation_failed', `query.${name}`]);
        }
    });
  });
});

describe('a selector', () => {
  const count = async (url: string): Promise<number> => (await f.world.must(AnyPage, 'GET', url)).items.length;
  it.each([
    ['pools', 'select=country%3Dde', 1],
    ['pools', 'select=!country', 1],
    ['pools', 'select=country%3Dde&address=198.51.100.1', 0],
    ['machines', 'select=site%3Dcdg1', 1],
    ['machines', 'select=site%3Dcdg1&enforcement=agent', 0],
    ['machines', 'select=site%20in%20(cdg1,ams1)&state=active', 1],
    ['routers', 'select=site%3Dcdg1', 1],
    ['slices', 'select=tier%3Da', 3],
    ['slices', 'select=tier%3Da&select_machine=!site', 0],
    ['slices', 'select_machine=site%3Dcdg1&allocator=server', 3],
    ['leases', 'select=tier%3Da', 4],
    ['leases', 'select=tier%3Da&mode=shared&holder=web', 1],
    ['leases', 'select_machine=site%3Dams1', 0],
    ['sessions', 'select_machine=site%3Dcdg1', 2],
    ['sessions', 'select_machine=site%3Dcdg1&holder=mail', 1],
  ])('finds among %s by %s', async (what, query, found) => {
    expect(await count(`/v1/${what}?${query}`)).toBe(found);
  });

  it('shows holders no more than what is theirs', async () => {
    const page = await f.world.call('GET', '/v1/leases?select=tier%3Da', { token: f.haproxy });
    expect(page.as(AnyPage).items).toEqual([]);
  });
});
