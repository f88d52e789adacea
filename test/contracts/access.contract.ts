import { describe, expect, it } from 'vitest';
import type { Store } from '../../src/leases/store.ts';
import { must, second, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

/** What a store promises to those who let others in, and who watch over machines. */
export function accessContract(name: string, open: () => Promise<Opened>): void {
  const all = { limit: 1_000, cursor: null };

  describe(`${name}, as a store of tokens`, () => {
    it('keeps an access token by its hash', async () => {
      await using opened = await open();
      const world = new World(opened.store);
      const made = await world.execute({
        ...{ kind: 'createToken', name: 'ci', role: 'operator', machine: null, holder: null, hash: 'h-1' },
      });
      const token = must(made);
      expect(await opened.store.reader.accessToken('h-1')).toEqual(token);
      expect((await opened.store.reader.accessTokens({}, all)).items).toEqual([token]);
      expect(await opened.store.reader.accessTokenById(token.id)).toEqual(token);
      expect(await opened.store.reader.accessTokenById(999)).toBeUndefined();
    });

    it('finds a rotated token by its secret and by the one before, and by no older one', async () => {
      await using opened = await open();
      const world = new World(opened.store);
      const create = { kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null } as const;
      const { id } = must(await world.execute({ ...create, hash: 'h-1', expiry: { ttlUs: 60 * second } }));
      must(await world.execute({ ...create, hash: 'other', role: 'operator' }));
      must(await world.execute({ kind: 'rotateToken', id, hash: 'h-2', graceUs: 10 * second }));
      const { reader } = opened.store;
      for (const hash of ['h-1', 'h-2']) expect((await reader.accessToken(hash))?.id).toBe(id);
      const rotated = must(await world.execute({ kind: 'rotateToken', id, hash: 'h-3', graceUs: 10 * second }));
      expect(await reader.accessToken('h-1')).toBeUndefined();
      expect(await reader.accessToken('h-2')).toEqual(rotated);
      expect(rotated).toMatchObject({ hash: 'h-3', formerHash: 'h-2', expiresAt: world.clock.us + 60 * second });
      expect((await reader.accessTokens({ role: 'viewer' }, all)).items).toEqual([rotated]);
      expect((await reader.accessTokens({ machine: 'edge-1' }, all)).items).toEqual([]);
    });

    it('keeps what a token may ask for, and when it was last used', async () => {
      await using opened = await open();
      const world = new World(opened.store);
      const quota = { requestsPerS: 50, requestsBurst: 100, watchersMax: 2 };
      const create = { kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null } as const;
      const { id } = must(await world.execute({ ...create, hash: 'h-1', quota }));
      const revision = await opened.store.reader.revision();
      must(await world.execute({ kind: 'noteTokenUses', uses: [{ token: id, agoUs: 5 * second }] }));
      const found = await opened.store.reader.accessToken('h-1');
      expect(found).toMatchObject({ quota, lastUsedAt: world.clock.us - 5 * second });
      expect(await opened.store.reader.revision()).toBe(revision);
    });
  });

  describe(`${name}, asked which agents are behind`, () => {
    it('tells since when a machine has not done what it was told', async () => {
      await using opened = await open();
      const world = new World(opened.store);
      for (const machine of ['edge-1', 'edge-2']) {
        await world.machine(machine);
        await world.holder(machine, 'web');
      }
      const { reader } = opened.store;
      expect(await reader.oldestUnapplied(9)).toEqual([]);
      const heard = async (machine: string, appliedRevision: number) =>
        must(await world.execute({ kind: 'agentKeepalive', machine, bootId: 'b', version: '1', appliedRevision }));
      await heard('edge-1', await reader.revision());
      await heard('edge-2', await reader.revision());
      const nothing = [
        { machine: 'edge-1', at: null },
        { machine: 'edge-2', at: null },
      ];
      expect(await reader.oldestUnapplied(9)).toEqual(nothing);
      world.clock.passSeconds(1);
      const first = world.clock.us;
      await world.session('edge-1', 'web');
      world.clock.passSeconds(1);
      await world.session('edge-1', 'web');
      await world.execute({ kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null, hash: 'h' });
      expect(await reader.oldestUnapplied(9)).toEqual([{ machine: 'edge-1', at: first }, nothing[1]]);
      await world.pool('v5', ['203.0.113.0/30']);
      expect((await reader.oldestUnapplied(9)).map(({ at }) => at === null)).toEqual([false, false]);
      expect(await reader.oldestUnapplied(1)).toEqual([{ machine: 'edge-1', at: first }]);
      await heard('edge-1', await reader.revision());
      await heard('edge-2', await reader.revision());
      expect(await reader.oldestUnapplied(9)).toEqual(nothing);
    });
  });
}
