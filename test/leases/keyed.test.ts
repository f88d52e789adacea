import { describe, expect, it } from 'vitest';
import type { Command } from '../../src/leases/commands.ts';
import { formatToken } from '../../src/leases/model.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { keyed, must, prefix, second, tcp, World } from '../support/world.ts';

/** A machine without an agent and one with, a slice and a holder on each. */
async function town() {
  const store = new MemoryStore();
  const world = new World(store);
  await world.pool('v4', ['198.51.100.0/30'], { cooldownUs: { tcp: 0, udp: 0, icmp: 0 } });
  for (const machine of ['bare', 'edge']) {
    await world.machine(machine, machine === 'bare' ? 'none' : 'agent');
    await world.holder(machine, 'web');
    await world.ready(machine, 'v4');
  }
  const session = await world.session('bare', 'web');
  return { store, world, session };
}

const grant = (session: number, ports = 4, count = 1): Command<'grantLeases'> => ({
  kind: 'grantLeases',
  scope: {},
  session,
  claims: Array.from({ length: count }, () => tcp(ports)),
});

describe('a request that comes again under its key', () => {
  it('is carried out once, also when both come in one batch', async () => {
    const { store, world, session } = await town();
    const answers = await Promise.all([
      world.execute(grant(session.id), keyed('k')),
      world.execute(grant(session.id), keyed('k')),
      world.execute(grant(session.id), keyed('k')),
    ]);
    expect(answers.map(({ replayed }) => replayed)).toEqual([undefined, true, true]);
    expect(answers.map(must)).toEqual(Array(3).fill(must(answers[0])));
    expect(store.tables.leases.size).toBe(1);
    const { revision } = store;
    expect(await world.execute(grant(session.id), keyed('k'))).toMatchObject({ ok: true, replayed: true });
    expect(store.revision).toBe(revision);
  });

  it('is another one when another token says it, or when it has no key', async () => {
    const { store, world, session } = await town();
    for (const terms of [keyed('k'), keyed('k', 'the same', 2), keyed('j'), {}, {}])
      expect(await world.execute(grant(session.id), terms)).not.toHaveProperty('replayed');
    expect(store.tables.leases.size).toBe(5);
    expect(store.tables.keptAnswers.size).toBe(3);
  });

  it('is refused when it says something else, in the same batch or later, and changes nothing', async () => {
    const { store, world, session } = await town();
    const [, second_] = await Promise.all([
      world.execute(grant(session.id), keyed('k', 'one')),
      world.execute(grant(session.id), keyed('k', 'two')),
    ]);
    const refusal = { ok: false, error: { code: 'idempotency_key_reused', key: 'k', usedAt: world.clock.us } };
    expect(second_).toEqual(refusal);
    world.clock.passSeconds(5);
    expect(await world.execute({ kind: 'sweep', itemsMax: 1 }, keyed('k', 'three'))).toEqual(refusal);
    expect(store.tables.leases.size).toBe(1);
  });

  it('is tried anew when it was refused: nothing was done', async () => {
    const { store, world, session } = await town();
    expect(await world.execute(grant(session.id, 4_096), keyed('k'))).toMatchObject({ ok: false });
    expect(store.tables.keptAnswers.size).toBe(0);
    // Also in one batch: the second does not wait for what the first did not get.
    const both = [grant(session.id, 4_096), grant(session.id, 8)].map((command) => world.execute(command, keyed('k')));
    expect(await Promise.all(both)).toMatchObject([{ ok: false }, { ok: true, value: [{ id: store.revision }] }]);
  });

  it('gets every lease as it is now, while all of them stand', async () => {
    const { world } = await town();
    const session = await world.session('edge', 'web');
    const leases = must(await world.execute(grant(session.id, 4, 2), keyed('k')));
    const [first, last] = leases;
    if (!first || !last) throw new Error('no leases');
    await world.report(first, 'active');
    const now = must(await world.execute(grant(session.id, 4, 2), keyed('k')));
    expect(now.map(({ id, state }) => [id, state])).toEqual([
      [first.id, 'active'],
      [last.id, 'pending'],
    ]);
    await world.report(last, 'refused');
    expect(must(await world.execute(grant(session.id, 4, 2), keyed('k'))).map(({ state }) => state)).toEqual([
      'active',
      'refused',
    ]);
  });

  it('gets no lease back that is over, but how each of them is', async () => {
    const { world } = await town();
    const session = await world.session('edge', 'web');
    const [first, last] = must(await world.execute(grant(session.id, 4, 2), keyed('k')));
    if (!first || !last) throw new Error('no leases');
    await world.report(first, 'active');
    await world.release(last);
    const again = () => world.execute(grant(session.id, 4, 2), keyed('k'));
    const over = (...items: readonly (readonly [string, string | null])[]) => ({
      ok: false,
      replayed: true,
      error: {
        code: 'replay_over',
        items: [first, last].map(({ id }, i) => ({ item: `lease-${id}`, state: items[i]?.[0], ending: items[i]?.[1] })),
      },
    });
    expect(await again()).toEqual(over(['active', null], ['ending', 'released']));
    await world.end(session);
    expect(await again()).toEqual(over(['ending', 'released'], ['ending', 'released']));
  });

  it('gets no lease of a session that is past its time, swept or not', async () => {
    const { world } = await town();
    const session = await world.session('edge', 'web', 10);
    await world.execute(grant(session.id), keyed('k'));
    world.clock.passSeconds(10);
    const again = await world.execute(grant(session.id), keyed('k'));
    expect(again).toMatchObject({ error: { code: 'replay_over', items: [{ state: 'ending', ending: 'expired' }] } });
    await world.sweep();
    expect(await world.execute(grant(session.id), keyed('k'))).toEqual(again);
  });

  it('gets its session while it lives, and its end when it does not', async () => {
    const { store, world } = await town();
    const open = { kind: 'openSession', scope: {}, machine: 'bare', holder: 'web', ttlUs: 10 * second } as const;
    const session = must(await world.execute(open, keyed('k')));
    world.clock.passSeconds(5);
    await world.keep(session);
    expect(await world.execute(open, keyed('k'))).toMatchObject({
      replayed: true,
      value: { id: session.id, expiresAt: world.clock.us + 10 * second },
    });
    world.clock.passSeconds(10);
    const over = (ending: string) => ({
      error: { code: 'replay_over', items: [{ item: `session-${session.id}`, state: 'ended', ending }] },
    });
    expect(await world.execute(open, keyed('k'))).toMatchObject(over('expired'));
    await world.sweep();
    expect(await world.execute(open, keyed('k'))).toMatchObject(over('expired'));
    expect(store.tables.sessions.size).toBe(2);
  });

  it('gets the answer of what ends something once more, with the lease as it is now', async () => {
    const { world, session } = await town();
    const [lease] = await world.leases(session, tcp(4));
    if (!lease) throw new Error('no lease');
    const release = { kind: 'releaseLease', scope: {}, id: lease.id, token: formatToken(lease) } as const;
    expect(must(await world.execute(release, keyed('k'))).state).toBe('cooling');
    await world.pass(1);
    expect(await world.execute(release, keyed('k'))).toMatchObject({ replayed: true, value: { state: 'ended' } });
    expect(await world.execute(release)).toMatchObject({ error: { code: 'lease_over' } });
    const end = { kind: 'endSession', scope: {}, id: session.id, ending: 'released' } as const;
    const ended = must(await world.execute(end, keyed('e')));
    expect(await world.execute(end, keyed('e'))).toEqual({ ok: true, value: ended, replayed: true });
  });

  it('gets what it was answered to the letter, numbers of IPv6 and odd labels included', async () => {
    const { world } = await town();
    const labels = { a: 'n:12', b: 's:n:12', c: 'plain' };
    const terms = { slicePorts: 2_048, usablePorts: { first: 1_024, last: 65_535 }, sharedBlockPorts: 128 };
    const cooldownUs = { tcp: 0, udp: 0, icmp: 0 };
    const create: Command<'createPool'> = {
      ...{ id: 'v6', labels, prefixes: [prefix('2001:db8::/32')], cooldownUs, ...terms },
      kind: 'createPool',
    };
    const made = must(await world.execute(create, keyed('p')));
    await world.ready('bare', 'v6');
    expect(await world.execute(create, keyed('p'))).toEqual({ ok: true, value: made, replayed: true });
    expect(made).toMatchObject({ cursors: [0n], labels });
  });

  it('is not shown a secret again, and told which token it made', async () => {
    const { store, world } = await town();
    const bearer = { name: 'ci', role: 'viewer', machine: null, holder: null } as const;
    const create = (hash: string) => ({ kind: 'createToken', ...bearer, hash }) as const;
    const token = must(await world.execute(create('first'), keyed('k')));
    expect(await world.execute(create('second'), keyed('k'))).toEqual({
      ...{ ok: false, replayed: true },
      error: { code: 'secret_shown_once', token: token.id },
    });
    expect([...store.tables.accessTokens.values()].map(({ hash }) => hash)).toEqual(['first']);
    expect(JSON.stringify([...store.tables.keptAnswers.values()])).not.toContain('first');
  });
});

describe('a grant that goes on after the kernel refused some of it', () => {
  it('keeps the leases that came instead, and what another server did meanwhile wins', async () => {
    const { store, world } = await town();
    const session = await world.session('edge', 'web');
    const [first, last] = must(await world.execute(grant(session.id, 4, 2), keyed('k')));
    if (!first || !last) throw new Error('no leases');
    await world.report(first, 'refused');
    const goOn = () => world.execute(grant(session.id), keyed('k', 'the same', 1, [first.id]));
    const [one, other] = await Promise.all([goOn(), goOn()]);
    const [instead] = must(one);
    expect(one).not.toHaveProperty('replayed');
    // The slower gets all that the request has by now.
    expect(other).toMatchObject({ ok: true, replayed: true, value: [{ id: instead?.id }, { id: last.id }] });
    expect(await world.execute(grant(session.id, 4, 2), keyed('k'))).toMatchObject({
      value: [{ id: instead?.id }, { id: last.id }],
    });
    expect(store.tables.leases.size).toBe(3);
    expect(store.tables.keptAnswers.size).toBe(1);
  });

  it('gets nothing more once the request is over', async () => {
    const { world } = await town();
    const session = await world.session('edge', 'web');
    const [lease] = must(await world.execute(grant(session.id), keyed('k')));
    if (!lease) throw new Error('no lease');
    await world.report(lease, 'refused');
    await world.end(session);
    const goOn = await world.execute(grant(session.id), keyed('k', 'the same', 1, [lease.id]));
    expect(goOn).toMatchObject({ error: { code: 'session_ended' } });
  });
});
