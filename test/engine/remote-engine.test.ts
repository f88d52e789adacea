import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../src/engine/engine.ts';
import { startEngine } from '../../src/engine/remote-engine.ts';
import type { Command } from '../../src/leases/commands.ts';
import type { Event } from '../../src/leases/model.ts';
import { StoreError } from '../../src/leases/store.ts';

const machine = (id: string): Command<'createMachine'> => ({
  ...{ kind: 'createMachine', id, labels: {}, enforcement: 'none', fenceUs: 4_000_000 },
});
const everything = { limit: 100, cursor: null };

let directory: string;
let open: Engine[];
const listeners = { onTrouble: vi.fn(), onSweepFailure: vi.fn(), onDeath: vi.fn() };

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fishery-engine-'));
  open = [];
  vi.clearAllMocks();
});
afterEach(async () => {
  for (const engine of open) await engine.close();
  rmSync(directory, { recursive: true, force: true });
});

async function start(): Promise<Engine> {
  const options = {
    location: { url: undefined, directory },
    ...{ eventsKept: 1_000, answersKeptUs: 1e9, auditKeptUs: 1e9, historyKeptUs: 1e15 },
  };
  const engine = await startEngine(options, listeners);
  open.push(engine);
  return engine;
}

describe('an engine in a thread of its own', () => {
  it('carries commands out, and is read where it wrote', async () => {
    const engine = await start();
    const created = await engine.leases.execute(machine('a'));
    expect(created).toMatchObject({ ok: true, value: { id: 'a', revision: 1 } });
    expect(await engine.reader.machine('a')).toEqual(created.ok && created.value);
    expect(await engine.reader.machine('nobody')).toBeUndefined();
    expect(await engine.leases.execute(machine('a'))).toEqual({
      ok: false,
      error: { code: 'machine_exists', machine: 'a' },
    });
  });

  it('tells of events in order and without a gap, ahead of the answers', async () => {
    const engine = await start();
    const heard: (number | string)[] = [];
    engine.leases.onEvents((events: readonly Event[]) => heard.push(...events.map(({ revision }) => revision)));
    const ids = Array.from({ length: 300 }, (_, index) => `m-${index}`);
    await Promise.all(
      ids.map(async (id) => {
        const created = await engine.leases.execute(machine(id));
        if (created.ok) expect(heard).toContain(created.value.revision);
      }),
    );
    expect(heard).toEqual(ids.map((_, index) => index + 1));
  });

  it('answers a dry run with what would be', async () => {
    const engine = await start();
    expect(await engine.leases.execute(machine('a'), { dryRun: true })).toMatchObject({ ok: true });
    expect((await engine.reader.machines({}, everything)).items).toEqual([]);
  });

  it('sweeps by itself once it is told to', async () => {
    const engine = await start();
    await engine.startSweeping();
    await engine.stopSweeping();
    expect(listeners.onSweepFailure).not.toHaveBeenCalled();
  });

  it('says with the failure of the store that it cannot be opened', async () => {
    await start();
    const second = start();
    await expect(second).rejects.toBeInstanceOf(StoreError);
    await expect(second).rejects.toMatchObject({
      failure: 'busy',
      message: expect.stringContaining('another') as string,
    });
    expect(listeners.onDeath).not.toHaveBeenCalled();
  });

  it('finishes what it was asked before it closes, and takes nothing afterwards', async () => {
    const engine = await start();
    const asked = Promise.all(Array.from({ length: 50 }, (_, index) => engine.leases.execute(machine(`m-${index}`))));
    await engine.close();
    expect((await asked).every(({ ok }) => ok)).toBe(true);
    await expect(engine.leases.execute(machine('late'))).rejects.toMatchObject({ failure: 'closed' });
    await expect(engine.reader.revision()).rejects.toMatchObject({ failure: 'closed' });
    expect(engine.leases.health()).toMatchObject({ writable: false });
    const again = await start();
    expect((await again.reader.machines({}, everything)).items).toHaveLength(50);
  });

  it('reports a bug with where it was, and goes on', async () => {
    const engine = await start();
    // No caller can: the compiler would not let it. The thread must not fall over it all the same.
    const nonsense = JSON.parse('{"kind":"createMachine","id":null}') as Command<'createMachine'>;
    await expect(engine.leases.execute(nonsense)).rejects.toThrow();
    expect(listeners.onTrouble).toHaveBeenCalledWith(expect.objectContaining({ kind: 'bug' }));
    expect(await engine.leases.execute(machine('a'))).toMatchObject({ ok: true });
  });

  it('is not writable any more when its thread has died, and says so to whoever waits', async () => {
    const made = once(process, 'worker') as Promise<[Worker]>;
    const engine = await start();
    const [worker] = await made;
    const waiting = Array.from({ length: 20 }, (_, index) => engine.leases.execute(machine(`m-${index}`)));
    const outcomes = Promise.allSettled(waiting);
    await worker.terminate();
    for (const outcome of await outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ failure: 'io' });
    expect(listeners.onDeath).toHaveBeenCalledOnce();
    expect(engine.leases.health()).toMatchObject({ writable: false, waitingCommands: 0 });
    await expect(engine.leases.execute(machine('late'))).rejects.toBeInstanceOf(StoreError);
  });
});
