import { expect } from 'vitest';
import type { Store } from '../../src/leases/store.ts';
import type { HeldPorts } from '../../src/leases/changes.ts';
import { heldOf } from './memory-reader.ts';
import { MemoryStore, type Tables } from './memory-store.ts';
import { NaiveHistory } from './naive-history.ts';
import { ordersOf, prologue, type Step } from './operations.ts';
import type { Stored } from './stored-tables.ts';
import { flawsOf } from './tiling.ts';
import { second, World } from './world.ts';

/** In what order an answer names things does not matter. */
const withAnswersRead = (tables: Tables) => ({
  ...tables,
  keptAnswers: new Map(
    [...tables.keptAnswers].map(([key, kept]) => [key, { ...kept, answer: JSON.parse(kept.answer) as unknown }]),
  ),
});

/** What machines reported reads the same of both: as it is, and as it was at the time. */
async function compareReported(memory: MemoryStore, store: Store): Promise<void> {
  const { tables } = memory;
  const all = { limit: 1_000, cursor: null };
  const few = { limit: 2, cursor: null };
  for (const { machine } of tables.brokers.values()) {
    const now = 2_000_000_000 * second;
    const read = async ({ reader }: Store) => [
      await reader.broker(machine),
      await reader.reportedLeases(machine, {}, now, all),
      await reader.reportedLeases(machine, { state: 'ended' }, now, few),
      await reader.reportedSessions(machine, {}, all),
    ];
    expect(await read(store)).toEqual(await read(memory));
  }
  for (const { machine, holder, address, protocol, ports, grantedAt: at } of tables.reportedLeases.values()) {
    const then = { since: at, until: at + 5 * second };
    const read = async ({ reader }: Store) => {
      const { items, next } = await reader.uses({ machine, holder, ...then }, few);
      const rest =
        next === null ? null : await reader.uses({ machine, holder, ...then }, { limit: 1_000, cursor: next });
      return [await reader.whoHad({ address, protocol, port: ports.first, at }), items, rest];
    };
    expect(await read(store)).toEqual(await read(memory));
  }
}

/** A real store under test, and a look into its tables that does not go through it. */
export type Subject = Readonly<{ store: Store; reopen: () => Promise<Store>; read: () => Promise<Stored> }>;

/**
 * The same story on two stores: one of maps and filters, one of indexes and SQL. They must come to the same table, and
 * tell the same of the past as somebody who looked at the time.
 */
export async function playInLockstep(subject: Subject, story: readonly Step[]): Promise<void> {
  let { store } = subject;
  const memory = new MemoryStore(await store.reader.epoch());
  let plain = new World(memory);
  let real = new World(store);
  const history = new NaiveHistory();
  for (const command of prologue) expect(await real.execute(command)).toEqual(await plain.execute(command));
  for (const step of story) {
    if (step.do === 'pass') for (const world of [plain, real]) world.clock.passSeconds(step.seconds);
    else if (step.do === 'prune') {
      const prune = { now: plain.clock.us, keptUs: step.keptSeconds * second, rowsMax: step.rowsMax };
      expect(await store.prune(prune)).toEqual(await memory.prune(prune));
      expect(await store.reader.historySince()).toBe(memory.historySince);
    } else if (step.do === 'restart') {
      plain = new World(memory, plain.clock);
      store = await subject.reopen();
      real = new World(store, real.clock);
    } else {
      const orders = ordersOf(step.commands, memory.tables);
      const [wanted, found] = [
        await Promise.all(orders.map(({ command, terms }) => plain.execute(command, terms))),
        await Promise.all(orders.map(({ command, terms }) => real.execute(command, terms))),
      ];
      expect(found).toEqual(wanted);
    }
    const { tables, events, held } = await subject.read();
    const isCounted = ({ machine }: HeldPorts) => (tables.machines.get(machine)?.limitedHolders ?? 0) > 0;
    expect(new Set(held)).toEqual(new Set(heldOf(memory.tables).filter(isCounted)));
    expect(withAnswersRead(tables)).toEqual(withAnswersRead(memory.tables));
    expect(events).toEqual(memory.events);
    expect(flawsOf(tables, events, memory.historySince)).toEqual([]);
    history.look(tables, events);
    expect(new Set(await store.reader.usage())).toEqual(new Set(await memory.reader.usage()));
    expect([...real.troubles, ...plain.troubles]).toEqual([]);
  }
  await compareReported(memory, store);
  for (const { reader } of [memory, store]) await history.compare(reader, memory.tables, memory.historySince);
}
