import { describe, expect, it } from 'vitest';
import { SteadyClock } from '../../src/ops/clock.ts';
import { furnishForLoad, killUnderLoad, lostOf } from '../support/killed.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';
import { Replica } from '../support/replica.ts';
import { flawsOf } from '../support/tiling.ts';
import { World } from '../support/world.ts';

describe('servers that are killed in the middle of their work', () => {
  it('have everything in the database that they answered, nothing half, and hold nobody up', async () => {
    await using database = await temporaryDatabase();
    const world = new World(await database.open({ clock: 'server' }));
    world.clock.us = new SteadyClock().nowUs();
    const session = await furnishForLoad(world);
    // One that stays alive sees all that the others did, whatever they were at when they died.
    await using witness = await Replica.start(await database.open(), new SteadyClock());
    const killed = await Promise.all([400, 900].map((answers) => killUnderLoad(database.url, session, answers)));
    const machine = { kind: 'createMachine', id: 'after', labels: {}, enforcement: 'none', fenceUs: 1 } as const;
    expect(await witness.service.execute(machine)).toMatchObject({ ok: true });
    const { tables, events } = await database.read();
    for (const said of killed) {
      expect(said.size).toBeGreaterThan(50);
      expect(lostOf(said, tables)).toEqual([]);
    }
    expect(flawsOf(tables, events)).toEqual([]);
    expect(await witness.store.reader.eventsAfter(0, null, events.length + 1)).toEqual(events);
    expect(witness.seen.length).toBeGreaterThan(0);
    expect(witness.seen).toEqual(events.slice(0, witness.seen.length));
  });
});
