import { describe, expect, it } from 'vitest';
import type { Command } from '../../src/leases/commands.ts';
import { LeaseService, type Trouble } from '../../src/leases/lease-service.ts';
import { limits } from '../../src/leases/limits.ts';
import type { Event } from '../../src/leases/model.ts';
import { StoreError, type Store, type Work } from '../../src/leases/store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { FakeClock, tcp, World } from '../support/world.ts';

const machine = (id: string): Command<'createMachine'> => ({
  kind: 'createMachine',
  id,
  labels: {},
  enforcement: 'agent',
  fenceUs: 1,
});

/** Counts transactions, and holds each one up: before its turn, and before its commit. */
class CountingStore extends MemoryStore {
  transactions = 0;
  turn: Promise<void> = Promise.resolve();
  gate: Promise<void> = Promise.resolve();
  override async transact<T>(work: Work<T>): Promise<T> {
    this.transactions++;
    await this.turn;
    const result = await super.transact(work);
    await this.gate;
    return result;
  }
}

function build(store: Store) {
  const troubles: Trouble[] = [];
  const service = new LeaseService({ store, clock: new FakeClock(), onTrouble: (trouble) => troubles.push(trouble) });
  return { service, troubles };
}

describe('group commit', () => {
  it('writes commands that arrive together in one transaction', async () => {
    const store = new CountingStore();
    const { service } = build(store);
    const results = await Promise.all(
      Array.from({ length: 100 }, (_, index) => service.execute(machine(`m-${index}`))),
    );
    expect(results.every(({ ok }) => ok)).toBe(true);
    expect(store.transactions).toBe(1);
  });

  it('lets commands that arrive during a write wait for the next, and keeps their order', async () => {
    const store = new CountingStore();
    const gate = Promise.withResolvers<undefined>();
    store.gate = gate.promise;
    const { service } = build(store);
    const first = service.execute(machine('a'));
    await new Promise((resolve) => setImmediate(resolve));
    const later = ['b', 'c', 'd'].map((id) => service.execute(machine(id)));
    gate.resolve(undefined);
    await Promise.all([first, ...later]);
    expect(store.transactions).toBe(2);
    expect(store.events.map((event) => event.machine)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('takes along what arrives while the store waits for its turn', async () => {
    const store = new CountingStore();
    const turn = Promise.withResolvers<undefined>();
    store.turn = turn.promise;
    const { service } = build(store);
    const first = service.execute(machine('a'));
    await new Promise((resolve) => setImmediate(resolve));
    const later = ['b', 'c', 'd'].map((id) => service.execute(machine(id)));
    turn.resolve(undefined);
    await Promise.all([first, ...later]);
    expect(store.transactions).toBe(1);
    expect(store.events.map((event) => event.machine)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('bounds a batch by number', async () => {
    const store = new CountingStore();
    const { service } = build(store);
    const count = 2 * limits.batch_commands_max + 1;
    await Promise.all(Array.from({ length: count }, (_, index) => service.execute(machine(`m-${index}`))));
    expect(store.transactions).toBe(3);
  });

  it('bounds a batch by weight, and lets a heavy command have one of its own', async () => {
    const store = new CountingStore();
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/32']);
    await world.machine('edge-1');
    await world.holder('edge-1', 'web');
    await world.ready('edge-1', 'v4');
    const web = await world.session('edge-1', 'web');
    const before = store.transactions;
    const claims = tcp(1, { count: limits.batch_weight_max / 4 });
    await Promise.all(Array.from({ length: 5 }, () => world.grant(web, claims)));
    // Four of 256 fill the weight of 1,024.
    expect(store.transactions - before).toBe(2);
    const heavy = Array.from({ length: 5_000 }, () => ({ lease: 1, token: '1.1.1', state: 'active' as const }));
    const report = { kind: 'report', machine: 'edge-1', revision: 0, leases: heavy, slices: [] } as const;
    await Promise.all([world.keep(web), world.execute(report), world.keep(web)]);
    expect(store.transactions - before).toBe(5);
  });

  it('gives commands that rearrange slices a batch of their own', async () => {
    const store = new CountingStore();
    const { service } = build(store);
    const sweep = { kind: 'sweep', itemsMax: 1 } as const;
    await Promise.all(
      [machine('a'), machine('b'), sweep, machine('c'), sweep].map((command) => service.execute(command)),
    );
    expect(store.transactions).toBe(4);
  });

  it('lets each command see what those before it in the batch decided', async () => {
    const { service } = build(new MemoryStore());
    const [first, second] = await Promise.all([service.execute(machine('a')), service.execute(machine('a'))]);
    expect(first).toMatchObject({ ok: true });
    expect(second).toEqual({ ok: false, error: { code: 'machine_exists', machine: 'a' } });
  });

  it('finds ports for every claim of a batch that competes for the same extents', async () => {
    const world = new World();
    await world.pool('v4', ['198.51.100.0/32'], { slicePorts: 64, usablePorts: { first: 64, last: 64 * 40 - 1 } });
    await world.machine('edge-1');
    await world.holder('edge-1', 'web');
    await world.ready('edge-1', 'v4', 39);
    const web = await world.session('edge-1', 'web');
    // 39 slices of 64: each takes one claim of 64, or two of 32, or 64 of 1. Together they fit to the last port.
    const sizes = [...Array<number>(20).fill(64), ...Array<number>(30).fill(32), ...Array<number>(256).fill(1)];
    const results = await Promise.all(sizes.map((size) => world.grant(web, tcp(size))));
    expect(results.filter((result) => !result.endsWith('pending'))).toEqual([]);
    expect(new Set(results).size).toBe(sizes.length);
    expect(await world.grant(web, tcp(1))).toBe('no_ports');
  });
});

describe('a dry run', () => {
  it('answers what would be, changes nothing, and is nothing to the commands that it came with', async () => {
    const store = new MemoryStore();
    const world = new World(store);
    const [first, tried, second] = await Promise.all([
      world.execute(machine('a')),
      world.execute(machine('b'), { dryRun: true }),
      world.execute(machine('b')),
    ]);
    expect([first, tried, second].map((result) => result.ok && result.value.revision)).toEqual([1, 2, 2]);
    expect(store.events.map((event) => event.machine)).toEqual(['a', 'b']);
    expect(world.events).toEqual(store.events);
    expect(await world.execute(machine('a'), { dryRun: true })).toMatchObject({
      error: { code: 'machine_exists', machine: 'a' },
    });
    expect(await world.execute(machine('c'), { dryRun: true })).toMatchObject({ value: { revision: 3 } });
    expect(store.tables.machines.has('c')).toBe(false);
  });

  it('does not prove that a store which failed can be written again', async () => {
    const store = new MemoryStore();
    const { service } = build(store);
    store.failure = new StoreError('full', 'no space left');
    await expect(service.execute(machine('a'))).rejects.toMatchObject({ failure: 'full' });
    store.failure = undefined;
    await service.execute(machine('a'), { dryRun: true });
    expect(service.health().writable).toBe(false);
    await service.execute(machine('a'));
    expect(service.health().writable).toBe(true);
  });
});

describe('events', () => {
  it('are told before the answer, in order, once they are durable', async () => {
    const store = new MemoryStore();
    const { service } = build(store);
    const story: string[] = [];
    const told: number[] = [];
    service.onEvents((events) => {
      expect(store.revision).toBe(events.at(-1)?.revision);
      told.push(...events.map((event) => event.revision));
      story.push('told');
    });
    await Promise.all(['a', 'b', 'c'].map((id) => service.execute(machine(id)).then(() => story.push('answered'))));
    expect(told).toEqual([1, 2, 3]);
    expect(story).toEqual(['told', 'answered', 'answered', 'answered']);
  });

  it('are told to everybody who listens, until they no longer do', async () => {
    const { service, troubles } = build(new MemoryStore());
    const heard: Event[] = [];
    const stop = service.onEvents((events) => heard.push(...events));
    service.onEvents(() => {
      throw new Error('deaf');
    });
    const last: Event[] = [];
    service.onEvents((events) => last.push(...events));
    await service.execute(machine('a'));
    stop();
    expect(await service.execute(machine('b'))).toMatchObject({ ok: true });
    expect([heard.length, last.length]).toEqual([1, 2]);
    expect(troubles.map(({ kind, message }) => `${kind}: ${message}`)).toEqual(
      Array(2).fill('bug: a listener failed: deaf'),
    );
  });
});

describe('a store that fails', () => {
  it('fails the commands of the batch with its reason, says so once, and is tried again', async () => {
    const store = new MemoryStore();
    const { service, troubles } = build(store);
    store.failure = new StoreError('full', 'the disk is full');
    const results = await Promise.allSettled([service.execute(machine('a')), service.execute(machine('b'))]);
    expect(results).toEqual(Array(2).fill({ status: 'rejected', reason: store.failure }));
    expect(service.health()).toEqual({ writable: false, reason: 'the disk is full', waitingCommands: 0 });
    await expect(service.execute(machine('a'))).rejects.toBe(store.failure);
    expect(troubles).toEqual([{ kind: 'store', message: 'the disk is full', cause: store.failure }]);
    store.failure = undefined;
    expect(await service.execute(machine('a'))).toMatchObject({ ok: true });
    expect(service.health()).toEqual({ writable: true, reason: null, waitingCommands: 0 });
  });

  it('that is corrupt is not written to again', async () => {
    const store = new CountingStore();
    const { service } = build(store);
    store.failure = new StoreError('corrupt', 'damaged');
    await expect(service.execute(machine('a'))).rejects.toThrow('damaged');
    await expect(service.execute(machine('a'))).rejects.toThrow('damaged');
    expect(store.transactions).toBe(1);
  });

  it('for one row fails that command alone, and reports it as a bug', async () => {
    /** Refuses what a table with a check would: a machine with this name. */
    class PickyStore extends MemoryStore {
      override async transact<T>(work: Work<T>): Promise<T> {
        return super.transact({
          ...work,
          decide: (view) => {
            const result = work.decide(view);
            if (view.machines.changes().some(({ after }) => after?.id === 'bad'))
              throw new StoreError('constraint', 'machines has a check');
            return result;
          },
        });
      }
    }
    const store = new PickyStore();
    const { service, troubles } = build(store);
    const results = await Promise.allSettled(
      ['a', 'bad', 'b'].map((id) =>
        service.execute(machine(id), { provenance: { requestId: `request-${id}`, key: null, audit: null } }),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect([...store.tables.machines.keys()]).toEqual(['a', 'b']);
    expect(store.events.map(({ revision }) => revision)).toEqual([1, 2]);
    expect(troubles).toMatchObject([
      { kind: 'bug', message: 'machines has a check', command: 'createMachine', requestId: 'request-bad' },
    ]);
    expect(service.health().writable).toBe(true);
  });
});

describe('a command that runs into a bug', () => {
  const tooMany = {
    kind: 'assignSlices',
    machine: 'm',
    pool: 'p',
    count: 1_000_000,
    family: null,
    at: null,
  } as const;

  it('is rejected with it and touches no other', async () => {
    const world = new World();
    await world.pool('p', ['198.51.100.0/32']);
    await world.machine('m');
    const results = await Promise.allSettled([
      world.execute(machine('a')),
      world.execute({ ...tooMany, count: limits.slices_per_assign_max + 1 }),
      world.execute(machine('b')),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(world.troubles).toMatchObject([{ kind: 'bug', command: 'assignSlices' }]);
  });
});

describe('overload and shutdown', () => {
  it('refuses commands beyond the queue instead of keeping them waiting', async () => {
    const store = new CountingStore();
    const gate = Promise.withResolvers<undefined>();
    store.gate = gate.promise;
    const { service } = build(store);
    const waiting = Array.from({ length: limits.waiting_commands_max }, () =>
      service.execute({ kind: 'revokeToken', id: 1 }),
    );
    await expect(service.execute(machine('a'))).rejects.toMatchObject({ failure: 'overloaded' });
    gate.resolve(undefined);
    await Promise.all(waiting);
    expect(await service.execute(machine('a'))).toMatchObject({ ok: true });
  });

  it('answers what it took before it closes, and takes no more', async () => {
    const { service } = build(new MemoryStore());
    const taken = [
      service.execute(machine('a')),
      service.execute({ kind: 'sweep', itemsMax: 1 }),
      service.execute(machine('b')),
    ];
    const closed = service.close();
    await expect(service.execute(machine('c'))).rejects.toMatchObject({ failure: 'closed' });
    await closed;
    expect(await Promise.all(taken)).toMatchObject([{ ok: true }, { ok: true }, { ok: true }]);
    expect(service.health()).toMatchObject({ writable: false, waitingCommands: 0 });
    await service.close();
  });
});
