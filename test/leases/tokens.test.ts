import { beforeEach, describe, expect, it } from 'vitest';
import type { Command } from '../../src/leases/commands.ts';
import type { LeaseError } from '../../src/leases/errors.ts';
import type { AccessToken } from '../../src/leases/model.ts';
import { isLiveToken } from '../../src/leases/tokens.ts';
import type { Result } from '../../src/net/result.ts';
import { ledger, must, second, World } from '../support/world.ts';

let w: World;
let token: AccessToken;
beforeEach(async () => {
  w = new World();
  token = must(await w.execute(create('h-1')));
});

const create = (hash: string, rest: Partial<Command<'createToken'>> = {}): Command<'createToken'> => ({
  ...{ kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null, hash },
  ...rest,
});

/** `live until +10 s, former until +5 s`, or the error's code. */
function show(result: Result<AccessToken, LeaseError>): string {
  if (!result.ok) return result.error.code;
  const { expiresAt, formerUntil } = result.value;
  const from = (at: number | null) => (at === null ? 'ever' : `+${(at - w.clock.us) / second} s`);
  const state = isLiveToken(result.value, w.clock.us) ? 'live' : 'over';
  return `${state} until ${from(expiresAt)}${formerUntil === null ? '' : `, former until ${from(formerUntil)}`}`;
}

const change = async (command: Command<'createToken' | 'updateToken' | 'rotateToken' | 'revokeToken'>) =>
  show(await w.execute(command));

describe('the expiry of a token', () => {
  it('is an instant, a time from now, or never', async () => {
    const at = w.clock.us + 7 * second;
    await ledger([
      ['never', async () => change(create('h-2')), 'live until ever'],
      ['a time to live', async () => change(create('h-3', { expiry: { ttlUs: 9 * second } })), 'live until +9 s'],
      ['an instant', async () => change(create('h-4', { expiry: { at } })), 'live until +7 s'],
      ['now', async () => change(create('h-5', { expiry: { at: w.clock.us } })), 'token_expiry_past'],
    ]);
    expect(await w.store.reader.accessToken('h-5')).toBeUndefined();
  });

  it('can be moved while the token lives, and not brought back afterwards', async () => {
    const { id } = token;
    await ledger([
      ['sooner', async () => change({ kind: 'updateToken', id, expiry: { ttlUs: 5 * second } }), 'live until +5 s'],
      ['a new name leaves it', async () => change({ kind: 'updateToken', id, name: 'cd' }), 'live until +5 s'],
      ['never', async () => change({ kind: 'updateToken', id, expiry: null }), 'live until ever'],
      ['back in time', async () => change({ kind: 'updateToken', id, expiry: { at: 5 } }), 'token_expiry_past'],
      ['sooner again', async () => change({ kind: 'updateToken', id, expiry: { ttlUs: second } }), 'live until +1 s'],
      ['it passes', async () => w.clock.passSeconds(1), undefined],
      ['too late', async () => change({ kind: 'updateToken', id, expiry: null }), 'token_not_live'],
      ['no rotation', async () => change({ kind: 'rotateToken', id, hash: 'h-9', graceUs: 0 }), 'token_not_live'],
      ['but a revocation', async () => change({ kind: 'revokeToken', id }), 'over until +0 s'],
    ]);
    expect(await w.store.reader.accessToken('h-9')).toBeUndefined();
  });
});

describe('rotating a token', () => {
  it('keeps the former secret for the grace that was given, and never two former ones', async () => {
    const { id } = token;
    const rotate = (hash: string, graceS: number) =>
      change({ kind: 'rotateToken', id, hash, graceUs: graceS * second });
    await ledger([
      ['with grace', async () => rotate('h-2', 60), 'live until ever, former until +60 s'],
      ['again', async () => rotate('h-3', 30), 'live until ever, former until +30 s'],
      ['without', async () => rotate('h-4', 0), 'live until ever'],
    ]);
    const found = await Promise.all(['h-1', 'h-2', 'h-3', 'h-4'].map((hash) => w.store.reader.accessToken(hash)));
    expect(found.map((one) => one?.id)).toEqual([undefined, undefined, undefined, id]);
  });

  it('leaves what the token is and may ask for as it was, and may give it another expiry', async () => {
    const quota = { requestsPerS: 5, requestsBurst: 7, watchersMax: 1 };
    const made = must(await w.execute(create('h-2', { quota, expiry: { ttlUs: 60 * second } })));
    const rotated = must(await w.execute({ kind: 'rotateToken', id: made.id, hash: 'h-3', graceUs: second }));
    expect(rotated).toEqual({
      ...made,
      ...{ hash: 'h-3', formerHash: 'h-2', formerUntil: w.clock.us + second, rotatedAt: rotated.rotatedAt },
    });
    const expiry = { ttlUs: 90 * second };
    const later = must(await w.execute({ kind: 'rotateToken', id: made.id, hash: 'h-4', graceUs: 0, expiry }));
    expect(later.expiresAt).toBe(w.clock.us + 90 * second);
  });

  it('is told of in the log, without the secrets', async () => {
    must(await w.execute({ kind: 'rotateToken', id: token.id, hash: 'h-2', graceUs: second }));
    const last = w.events.at(-1);
    expect(last).toMatchObject({ kind: 'token', token: { id: token.id, formerUntil: w.clock.us + second } });
    expect(JSON.stringify(w.events)).not.toMatch(/h-[12]/);
  });

  it('of a revoked or unknown one is refused', async () => {
    const { id } = token;
    await ledger([
      ['revoke', async () => change({ kind: 'revokeToken', id }), 'over until ever'],
      ['rotate', async () => change({ kind: 'rotateToken', id, hash: 'h-2', graceUs: 0 }), 'token_not_live'],
      ['update', async () => change({ kind: 'updateToken', id, name: 'x' }), 'token_not_live'],
      ['unknown', async () => change({ kind: 'rotateToken', id: 999, hash: 'h-2', graceUs: 0 }), 'token_not_found'],
    ]);
  });

  it('is over at once when the token is revoked: the former secret too', async () => {
    must(await w.execute({ kind: 'rotateToken', id: token.id, hash: 'h-2', graceUs: 600 * second }));
    must(await w.execute({ kind: 'revokeToken', id: token.id }));
    expect(await w.store.reader.accessToken('h-1')).toBeUndefined();
    expect((await w.store.reader.accessToken('h-2'))?.revokedAt).not.toBeNull();
  });
});

describe('the last use of a token', () => {
  it('is noted without an entry in the log, the latest counts, and unknown tokens are passed over', async () => {
    const before = w.events.length;
    const note = async (agoS: number, id = token.id) =>
      must(await w.execute({ kind: 'noteTokenUses', uses: [{ token: id, agoUs: agoS * second }] })).noted;
    const used = async () => ((await w.store.reader.accessTokenById(token.id))?.lastUsedAt ?? 0) - w.clock.us;
    await ledger([
      ['the first', async () => note(10), 1],
      ['is kept', used, -10 * second],
      ['a later one', async () => note(3), 1],
      ['is kept', used, -3 * second],
      ['an earlier one, told late', async () => note(7), 0],
      ['is not', used, -3 * second],
      ['of nobody', async () => note(0, 999), 0],
    ]);
    expect(w.events.length).toBe(before);
  });
});
