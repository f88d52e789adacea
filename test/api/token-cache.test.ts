import { describe, expect, it } from 'vitest';
import { TokenCache } from '../../src/api/token-cache.ts';
import type { AccessToken } from '../../src/leases/model.ts';
import { tokenWith } from '../support/token-values.ts';

/** A table of tokens, how often it was asked, and a cache of three in front of it. */
function world() {
  const table = new Map<string, AccessToken>();
  const state = { lookups: 0, now: 0, gate: Promise.resolve<undefined>(undefined) };
  const cache = new TokenCache({
    lookup: async (hash) => {
      state.lookups++;
      const found = table.get(hash);
      await state.gate;
      return found;
    },
    nowUs: () => state.now,
    entries_max: 3,
    age_us_max: 1_000,
  });
  const add = (token: AccessToken) => table.set(token.hash, token);
  return { table, state, cache, add };
}

describe('the token cache', () => {
  it('asks once for a token that is used often', async () => {
    const { cache, state, add } = world();
    add(tokenWith(1));
    for (let i = 0; i < 5; i++) expect((await cache.find('hash-1'))?.token.id).toBe(1);
    expect(state.lookups).toBe(1);
  });

  it('asks once for a token that comes with many requests at once, and again after a change', async () => {
    const { cache, state, add } = world();
    const gate = Promise.withResolvers<undefined>();
    state.gate = gate.promise;
    add(tokenWith(1));
    expect(cache.knows('hash-1')).toBe(false);
    const early = [cache.find('hash-1'), cache.find('hash-1')];
    expect([state.lookups, cache.knows('hash-1')]).toEqual([1, true]);
    add(tokenWith(1, { revokedAt: 7 }));
    cache.forget(1);
    const late = cache.find('hash-1');
    expect(state.lookups).toBe(2);
    gate.resolve(undefined);
    expect((await Promise.all(early)).map((found) => found?.token.id)).toEqual([1, 1]);
    expect([await late, cache.knows('hash-1')]).toEqual([undefined, false]);
  });

  it('keeps no token that is unknown, revoked, or stored under another hash', async () => {
    const { cache, table, add } = world();
    add(tokenWith(1, { revokedAt: 5 }));
    table.set('hash-2', tokenWith(3));
    for (const hash of ['hash-0', 'hash-1', 'hash-2']) expect(await cache.find(hash)).toBeUndefined();
    expect(cache.size).toBe(0);
  });

  it('holds no more than its bound, and lets go of what was used longest ago', async () => {
    const { cache, state, add } = world();
    for (const id of [1, 2, 3, 4]) add(tokenWith(id));
    for (const id of [1, 2, 3]) await cache.find(`hash-${id}`);
    await cache.find('hash-1');
    await cache.find('hash-4');
    expect(cache.size).toBe(3);
    const before = state.lookups;
    await cache.find('hash-1');
    expect(state.lookups).toBe(before);
    await cache.find('hash-2');
    expect(state.lookups).toBe(before + 1);
  });

  it('forgets a revoked token at once', async () => {
    const { cache, add } = world();
    add(tokenWith(1));
    await cache.find('hash-1');
    add(tokenWith(1, { revokedAt: 7 }));
    cache.forget(1);
    expect(await cache.find('hash-1')).toBeUndefined();
  });

  it('keeps nothing of a lookup that began before a revocation and ended after it', async () => {
    const { cache, state, add } = world();
    add(tokenWith(1));
    const { promise, resolve } = Promise.withResolvers<undefined>();
    state.gate = promise;
    const slow = cache.find('hash-1');
    add(tokenWith(1, { revokedAt: 7 }));
    cache.forget(1);
    resolve(undefined);
    await slow;
    expect(cache.size).toBe(0);
    expect(await cache.find('hash-1')).toBeUndefined();
  });

  it('asks again after its age, so that a revocation by another process is noticed', async () => {
    const { cache, state, add } = world();
    add(tokenWith(1));
    await cache.find('hash-1');
    add(tokenWith(1, { revokedAt: 7 }));
    state.now = 999;
    expect((await cache.find('hash-1'))?.token.id).toBe(1);
    state.now = 1_000;
    expect(await cache.find('hash-1')).toBeUndefined();
  });

  it('refuses a token from the moment it expires, also one that it knows', async () => {
    const { cache, state, add } = world();
    add(tokenWith(1, { expiresAt: 500 }));
    expect(await cache.find('hash-1')).toMatchObject({ validUntil: 500 });
    state.now = 499;
    expect((await cache.find('hash-1'))?.token.id).toBe(1);
    state.now = 500;
    expect(await cache.find('hash-1')).toBeUndefined();
    state.now = 5_000;
    expect(await cache.find('hash-1')).toBeUndefined();
    expect(cache.knows('hash-1')).toBe(false);
  });

  it('accepts the secret before the last rotation until its grace or the token itself is over', async () => {
    const { cache, state, table } = world();
    const rotated = tokenWith(1, { hash: 'new', formerHash: 'old', formerUntil: 300, expiresAt: 800 });
    for (const hash of ['new', 'old']) table.set(hash, rotated);
    expect(await cache.find('old')).toMatchObject({ validUntil: 300 });
    expect(await cache.find('new')).toMatchObject({ validUntil: 800 });
    state.now = 300;
    expect(await cache.find('old')).toBeUndefined();
    expect((await cache.find('new'))?.token.id).toBe(1);
  });
});
