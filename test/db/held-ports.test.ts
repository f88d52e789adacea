import Database from 'better-sqlite3';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { must, tcp, World } from '../support/world.ts';
import { temporaryStore } from '../support/temporary-store.ts';

it('leaves no count of what a holder has when the holder is gone, by itself or with its machine', async () => {
  await using temporary = await temporaryStore();
  const world = new World(temporary.store);
  await world.pool('v4', ['198.51.100.0/31']);
  const none = { tcp: 0, udp: 0, icmp: 0 };
  const limits = { portsMin: { ...none, tcp: 8 }, portsMax: { ...none, tcp: 64 }, sessionsMax: null };
  await world.machine('bare', 'none');
  for (const name of ['web', 'mail']) {
    await world.holder('bare', name);
    must(await world.execute({ kind: 'putHolder', machine: 'bare', name, holderKind: 'proxy', limits }));
  }
  await world.ready('bare', 'v4');
  const sessions = [await world.session('bare', 'web'), await world.session('bare', 'mail')];
  for (const session of sessions) await world.leases(session, tcp(8));
  const counted = () => {
    const connection = new Database(join(temporary.directory, 'fishery.db'), { readonly: true });
    try {
      return connection.prepare<[], string>('SELECT holder FROM held_ports ORDER BY holder').pluck().all();
    } finally {
      connection.close();
    }
  };
  expect(counted()).toEqual(['mail', 'web']);
  for (const session of sessions) await world.end(session);
  await world.pass(1);
  await world.removeHolder('bare', 'web');
  expect(counted()).toEqual(['mail']);
  await world.pass(121);
  await world.execute({ kind: 'updateMachine', id: 'bare', state: 'draining' });
  for (const seconds of [1, 121]) await world.pass(seconds);
  expect(await world.remove('bare')).toBe('bare is gone');
  expect(counted()).toEqual([]);
});
