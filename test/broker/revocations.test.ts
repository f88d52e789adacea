import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatInstant } from '../../src/wire/instants.ts';
import type { Lease } from '../../src/wire/leases.ts';
import type { Revocation } from '../../src/wire/revocations.ts';
import { BrokerWorld, ownUid, until } from '../support/broker-world.ts';
import { LinkedBroker } from '../support/linked-broker.ts';

let w: BrokerWorld;
beforeEach(async () => {
  w = await BrokerWorld.open();
  await w.ready();
});
afterEach(async () => {
  await w[Symbol.asyncDispose]();
});

const nothing = { machine: null, holder: null, pools: null, prefix: null, session: null, slice: null, lease: null };
/** As the server tells it. */
function revocation(id: number, over: Partial<Revocation> = {}): Revocation {
  const now = formatInstant(Date.now() * 1_000 + id);
  return {
    ...{ id: `revocation-${id}`, ...nothing, ending: 'revoked', reason: 'why', forced: false, state: 'ending' },
    ...{ created_at: now, revoke_at: now, ended_at: now, done_at: null, leases_ended: 0, machine_leases_left: null },
    revision: id,
    ...over,
  };
}
const hear = async (...revocations: readonly Revocation[]): Promise<boolean> => {
  w.word.revocations.push(...revocations);
  return w.mirror();
};
const open = async (holder = 'web') =>
  (await w.client().sessions.open({ machine: 'edge', holder: ownUid === 0 ? holder : 'web', ttl_s: 60 })).id;
const grant = async (session: string): Promise<Lease> => {
  const claims = [{ protocol: 'tcp' as const, ports: 8 }];
  const [lease] = (await w.client().leases.grant({ session, claims }, { wait: 'stored' })).leases;
  if (!lease) throw new Error('nothing was granted');
  return lease;
};
const stateOf = async ({ id }: Lease): Promise<string> => {
  const { state, ending } = await w.client().leases.get(id);
  return ending === null ? state : `${state} ${ending}`;
};

describe('what the server revokes by the many', () => {
  it.each<[string, Partial<Revocation>, 'ending revoked' | 'pending']>([
    ['everything', {}, 'ending revoked'],
    ['of this machine', { machine: 'edge' }, 'ending revoked'],
    ['of another one', { machine: 'edge-2' }, 'pending'],
    ['of its holder', { machine: 'edge', holder: 'web' }, 'ending revoked'],
    ['of another holder', { machine: 'edge', holder: 'mail' }, 'pending'],
    ['of a holder that is not here', { holder: 'nobody' }, 'pending'],
    ['in its pool', { pools: ['other', 'pool'] }, 'ending revoked'],
    ['in others', { pools: ['other'] }, 'pending'],
    ['on its address', { prefix: '198.51.100.0/28' }, 'ending revoked'],
    ['on others', { prefix: '203.0.113.0/24' }, 'pending'],
    ['of a session of the server', { session: 'session-3' }, 'pending'],
    ['of a slice that leaves', { slice: 'slice-1' }, 'pending'],
    ['at once, connections too', { forced: true }, 'ending revoked'],
  ])('ends what was granted here (%s)', async (_, scope, becomes) => {
    const lease = await grant(await open());
    expect(await hear(revocation(7, scope))).toBe(true);
    expect(await stateOf(lease)).toBe(becomes);
    expect(await stateOf(await grant(await open()))).toBe('pending');
  });

  it('ends those of one session of this host', async () => {
    const [session, other] = [await open(), await open()];
    const [meant, stays] = [await grant(session), await grant(other)];
    await hear(revocation(7, { session }));
    expect([await stateOf(meant), await stateOf(stays)]).toEqual(['ending revoked', 'pending']);
  });

  it('is done once: not again when it is told again, after a restart or with other news', async () => {
    const lease = await grant(await open());
    const told = revocation(7);
    await hear(told);
    expect(await stateOf(lease)).toBe('ending revoked');
    const later = await grant(await open());
    await hear({ ...told, state: 'done', done_at: told.created_at });
    await w.stop();
    await w.start();
    await w.mirror();
    await w.confirmed();
    expect(await stateOf(later)).toBe('pending');
    // A server that was restored counts from a lower number again.
    await hear(revocation(3));
    expect(await stateOf(later)).toBe('ending revoked');
  });

  it('lets leases be until its deadline, by the clock of the server', async () => {
    const lease = await grant(await open());
    w.serverNowUs = () => undefined;
    const by = formatInstant((Date.now() - 3_600_000 + 500) * 1_000);
    expect(await hear(revocation(7, { state: 'waiting', revoke_at: by, ended_at: null }))).toBe(false);
    expect(await stateOf(lease)).toBe('pending');
    w.serverNowUs = () => (Date.now() - 3_600_000) * 1_000;
    expect(await w.mirror()).toBe(true);
    await until(async () => (await stateOf(lease)) === 'ending revoked');
  });
});

describe('a table that was just made', () => {
  it('has nothing to end by what was revoked before', async () => {
    await using fresh = await BrokerWorld.open((word) => word.revocations.push(revocation(7)));
    await fresh.ready();
    const session = await fresh.client().sessions.open({ machine: 'edge', holder: 'web', ttl_s: 60 });
    const claims = [{ protocol: 'tcp' as const }];
    const [lease] = (await fresh.client().leases.grant({ session: session.id, claims }, { wait: 'stored' })).leases;
    await fresh.mirror();
    expect((await fresh.client().leases.get(lease?.id ?? '')).state).toBe('pending');
  });
});

describe('a revocation at the server', () => {
  it(
    'reaches the leases of brokers, also of one that was away, and tells how many are left',
    { timeout: 60_000 },
    async () => {
      await using linked = await LinkedBroker.open();
      const server = linked.server.client;
      await server.slices.assign({ machine: 'edge', pool: 'pool', allocator: 'machine' });
      const take = () => linked.grantHere(8);
      const first = await take();
      await until(() => linked.server.store.tables.reportedLeases.size === 1);
      const { id, machine_leases_left } = await server.revocations.create({
        machine: 'edge',
        holder: 'web',
        deadline_s: 0,
      });
      expect(machine_leases_left).toBe(1);
      await until(async () => (await server.revocations.get(id)).machine_leases_left === 0);
      expect((await linked.local().leases.get(first.id)).ending).toBe('revoked');
      const second = await take();
      await until(() => linked.server.store.tables.reportedLeases.size === 2);
      const session = second.session ?? '';
      await linked.restart(async () => {
        await server.revocations.create({ machine: 'edge', session, forced: true });
      });
      await until(async () => (await linked.local().leases.get(second.id)).ending === 'revoked');
    },
  );
});
