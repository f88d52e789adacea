import { describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import type { Change } from '../../../src/wire/agent.ts';
import type { Revocation } from '../../../src/wire/revocations.ts';
import { desired, desiredPool, holder, instant, lease, session, slice } from '../../support/agent-values.ts';

type Body = Change extends infer C ? (C extends { revision: number } ? Omit<C, 'revision' | 'at'> : never) : never;
const change = (revision: number, body: Body): Change => ({ ...body, revision, at: instant });

function machine(over: Parameters<typeof desired>[0] = {}): DesiredMachine {
  const made = new DesiredMachine('edge');
  made.reset(desired(over));
  return made;
}
const states = (made: DesiredMachine) => [...made.leases.values()].map(({ id, state }) => `${id} ${state}`);

describe('a snapshot', () => {
  it('replaces everything, and touches what was and what is', () => {
    const made = machine({ leases: [lease(1), lease(2)] });
    const touched = made.reset(desired({ revision: 20, leases: [lease(2), lease(3)] }));
    expect(touched).toEqual({ host: true, everything: true, leases: ['lease-1', 'lease-2', 'lease-3'] });
    expect(states(made)).toEqual(['lease-2 pending', 'lease-3 pending']);
    expect(made.revision).toBe(20);
  });

  it('may go back: a server restored from a backup begins anew', () => {
    const made = machine({ revision: 30 });
    made.reset(desired({ revision: 5, epoch: 'other' }));
    expect([made.revision, made.epoch]).toEqual([5, 'other']);
  });
});

describe('a change', () => {
  it('that is not newer than what is known is ignored', () => {
    const made = machine({ leases: [lease(1)] });
    expect(made.apply(change(10, { kind: 'lease', lease: lease(2) })).leases).toEqual([]);
    expect(made.apply(change(9, { kind: 'lease', lease: lease(1, { state: 'ended' }) })).leases).toEqual([]);
    expect(states(made)).toEqual(['lease-1 pending']);
  });

  it('that another follows is not waited for: a bookmark moves on', () => {
    const made = machine();
    made.reach(15);
    made.reach(12);
    expect(made.revision).toBe(15);
    expect(made.apply(change(14, { kind: 'lease', lease: lease(2) })).leases).toEqual([]);
  });

  it.each([
    ['pending', ['lease-1 pending']],
    ['active', ['lease-1 active']],
    ['ending', ['lease-1 ending']],
    ['cooling', []],
    ['ended', []],
    ['refused', []],
  ] as const)('makes a lease %s', (state, expected) => {
    const made = machine({ leases: [lease(1, { state: 'active' })] });
    expect(made.apply(change(11, { kind: 'lease', lease: lease(1, { state }) })).leases).toEqual(['lease-1']);
    expect(states(made)).toEqual(expected);
  });

  it('of another machine concerns nobody here', () => {
    const made = machine();
    expect(made.apply(change(11, { kind: 'lease', lease: lease(1, { machine: 'other' }) })).leases).toEqual([]);
    expect(
      made.apply(change(12, { kind: 'holder', holder: { ...holder('web', 7), machine: 'other' } })).leases,
    ).toEqual([]);
    expect(made.holders.get('web')?.uid).toBe(2_001);
  });

  it('of a holder touches its leases when the guard knows it otherwise from now on', () => {
    const made = machine({ leases: [lease(1), lease(2, { holder: 'mail' })] });
    expect(made.apply(change(11, { kind: 'holder', holder: holder('web', 2_001) })).leases).toEqual([]);
    expect(made.apply(change(12, { kind: 'holder', holder: holder('web', 3_001) })).leases).toEqual(['lease-1']);
  });

  it.each([
    ['assigning', true],
    ['assigned', true],
    ['draining', true],
    ['cooling', false],
    ['free', false],
  ] as const)('keeps a slice while it is %s: %s', (state, isKept) => {
    const made = machine();
    expect(made.apply(change(11, { kind: 'slice', slice: slice(1, { state }) })).host).toBe(true);
    expect(made.slices.has('slice-1')).toBe(isKept);
  });

  it('of a slice that was never here, or is not any more, touches nothing', () => {
    const made = machine();
    expect(made.apply(change(11, { kind: 'slice', slice: slice(9, { machine: 'other' }) })).host).toBe(false);
    expect(made.apply(change(12, { kind: 'slice', slice: slice(1, { machine: null, state: 'free' }) })).host).toBe(
      true,
    );
  });

  it('of a pool or of the machine is taken over', () => {
    const made = machine();
    const pool = desiredPool('pool', ['198.51.100.0/24', '203.0.113.0/24']);
    expect(made.apply(change(11, { kind: 'pool', pool })).host).toBe(true);
    expect([...made.pools.values()]).toEqual([pool.prefixes]);
    made.apply(change(12, { kind: 'machine', machine: 'edge', fence_s: 7, state: 'cordoned' }));
    expect([made.fence_s, made.state]).toEqual([7, 'cordoned']);
  });
});

describe('a revocation', () => {
  const nothing = { machine: null, holder: null, pools: null, prefix: null, session: null, slice: null, lease: null };
  const revocation = (over: Partial<Revocation>): Revocation => ({
    ...{ id: 'revocation-11', ...nothing, ending: 'revoked', reason: '', forced: false, state: 'ending' },
    ...{ created_at: instant, revoke_at: instant, ended_at: instant, done_at: null, leases_ended: 0, revision: 11 },
    machine_leases_left: null,
    ...over,
  });
  const one = lease(1, { state: 'active', address: '198.51.100.10', pool: 'v4', holder: 'web' });
  const two = lease(2, { state: 'active', address: '198.51.100.20', pool: 'v6', holder: 'mail' });
  it('is remembered for whoever grants here too, as it was told last, unless it is about a slice', () => {
    const first = revocation({ id: 'revocation-5', state: 'waiting' });
    const made = machine({ revocations: [first] });
    const tell = (number: number, over: Partial<Revocation>) =>
      made.apply(change(number, { kind: 'revocation', revocation: revocation(over) }));
    tell(12, { id: 'revocation-12', holder: 'web' });
    tell(13, { id: 'revocation-5' });
    tell(14, { id: 'revocation-14', slice: 'slice-1' });
    expect(made.revocations.map(({ id, state }) => `${id} ${state}`)).toEqual([
      'revocation-5 ending',
      'revocation-12 ending',
    ]);
    for (let number = 15; number < 1_100; number++) tell(number, { id: `revocation-${number}` });
    expect(made.revocations).toHaveLength(1_000);
    expect(made.revocations.at(-1)?.id).toBe('revocation-1099');
  });

  const apply = (over: Partial<Revocation>) => {
    const made = machine({ leases: [one, two] });
    const { leases } = made.apply(change(11, { kind: 'revocation', revocation: revocation(over) }));
    return { touched: leases, states: states(made) };
  };
  const first = { touched: ['lease-1'], states: ['lease-1 ending', 'lease-2 active'] };

  it.each([
    ['a holder', { holder: 'web' }],
    ['a pool', { pools: ['v4', 'v5'] }],
    ['a prefix', { prefix: '198.51.100.0/28' }],
    ['a session', { session: one.session, holder: 'web' }],
    ['a lease', { lease: one.id, slice: one.slice }],
    ['a slice', { slice: one.slice, pools: ['v4'] }],
  ] as const)('ends the leases of %s', (_, over) => {
    expect(apply(over as Partial<Revocation>)).toEqual(first);
  });

  it('by force says so of each lease, also of those that are ending already', () => {
    const made = machine({ leases: [lease(1), lease(2, { state: 'ending', ending: 'released' }), lease(3)] });
    made.apply(change(11, { kind: 'revocation', revocation: revocation({ forced: true, lease: 'lease-1' }) }));
    made.apply(change(12, { kind: 'revocation', revocation: { ...revocation({ forced: true }), lease: 'lease-2' } }));
    expect([...made.leases.values()].map(({ ending, forced }) => [ending, forced])).toEqual([
      ['revoked', true],
      ['released', true],
      [null, undefined],
    ]);
  });

  it('ends nothing before its time, and nothing that was granted after it', () => {
    const neither = { touched: [], states: ['lease-1 active', 'lease-2 active'] };
    expect(apply({ state: 'waiting' })).toEqual(neither);
    expect(apply({ id: 'revocation-1' })).toEqual(neither);
    expect(apply({ id: 'revocation-2' })).toEqual(first);
    expect(apply({ machine: 'other' })).toEqual(neither);
  });

  it('drops what was reclaimed: this machine has no say in it any more', () => {
    expect(apply({ ending: 'fenced', holder: 'web' })).toEqual({ touched: ['lease-1'], states: ['lease-2 active'] });
    const made = machine({ slices: [slice(1), slice(2)], leases: [lease(1), lease(2, { slice: 'slice-2' })] });
    expect(made.apply(change(11, { kind: 'slice', slice: { ...slice(1), state: 'draining' } })).host).toBe(true);
    expect(made.slices.size).toBe(2);
    const reclaimed = { ...slice(1), state: 'draining', reclaimed: true } as const;
    // Its leases go with it, not when somebody gets to say that each of them is fenced.
    const gone = { host: true, leases: ['lease-1'] };
    expect(made.apply(change(12, { kind: 'slice', slice: reclaimed }))).toMatchObject(gone);
    expect([...made.slices.keys()]).toEqual(['slice-2']);
    expect(states(made)).toEqual(['lease-2 pending']);
  });
});

describe('a deletion', () => {
  it('of a pool takes its prefixes away, and of a machine nothing', () => {
    const made = machine();
    made.apply(change(11, { kind: 'pool', pool: desiredPool('v9', ['203.0.113.0/24']) }));
    expect(made.apply(change(12, { kind: 'deleted', what: 'machine', id: 'v9' })).host).toBe(false);
    expect(made.pools.has('v9')).toBe(true);
    expect(made.apply(change(13, { kind: 'deleted', what: 'pool', id: 'v9' })).host).toBe(true);
    expect(made.pools.has('v9')).toBe(false);
  });

  it('of a holder takes its user’s right away, whatever was thought to live of it', () => {
    const made = machine({ leases: [lease(1), lease(2, { holder: 'mail' })] });
    const deleted = { kind: 'deleted', what: 'holder', id: 'web' } as const;
    expect(made.apply(change(11, { ...deleted, machine: 'other' })).leases).toEqual([]);
    expect([...made.holders.keys()]).toContain('web');
    expect(made.apply(change(12, { ...deleted, machine: 'edge' }))).toMatchObject({ leases: ['lease-1'], host: false });
    expect([...made.holders.keys()]).toEqual(['mail', 'fish']);
    expect(states(made)).toEqual(['lease-2 pending']);
    // Another of the name is another.
    made.apply(change(13, { kind: 'holder', holder: holder('web', 3_001) }));
    expect([made.holders.get('web')?.uid, made.leases.size]).toEqual([3_001, 1]);
  });
});

describe('the end of a session', () => {
  const ended = (revision: number) =>
    change(revision, { kind: 'session', session: session(1, { state: 'ended', ending: 'expired' }) });

  it('ends its leases, and those of no other', () => {
    const made = machine({
      leases: [
        lease(1, { state: 'active' }),
        lease(2),
        lease(3, { session: 'session-2' }),
        lease(4, { session: null }),
      ],
    });
    expect(made.apply(ended(11)).leases).toEqual(['lease-1', 'lease-2']);
    expect(states(made)).toEqual(['lease-1 ending', 'lease-2 ending', 'lease-3 pending', 'lease-4 pending']);
    expect(made.leases.get('lease-1')?.ending).toBe('expired');
  });

  it('is not undone by what was on its way: a lease reported active just then', () => {
    const made = machine({ leases: [lease(1)] });
    made.apply(ended(11));
    made.apply(change(12, { kind: 'lease', lease: lease(1, { state: 'active' }) }));
    expect(states(made)).toEqual(['lease-1 ending']);
    made.apply(change(13, { kind: 'lease', lease: lease(1, { state: 'cooling' }) }));
    expect(states(made)).toEqual([]);
  });

  it('touches nothing when it is of another machine, or lives', () => {
    const made = machine({ leases: [lease(1)] });
    const elsewhere = session(1, { machine: 'other', state: 'ended', ending: 'released' });
    expect(made.apply(change(11, { kind: 'session', session: elsewhere })).leases).toEqual([]);
    expect(made.apply(change(12, { kind: 'session', session: session(1) })).leases).toEqual([]);
    expect(states(made)).toEqual(['lease-1 pending']);
  });
});
