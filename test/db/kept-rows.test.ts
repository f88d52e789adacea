import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryStore } from '../support/temporary-store.ts';
import { tcp, World } from '../support/world.ts';

describe('what the store remembers from one transaction to the next', () => {
  it('is read anew when somebody else has written to the file', async () => {
    await using temporary = await temporaryStore();
    const world = new World(temporary.store);
    await world.pool('v4', ['198.51.100.0/30']);
    await world.machine('edge-1', 'none');
    await world.holder('edge-1', 'web');
    await world.slices('edge-1', 'v4', { count: 2 });
    const web = await world.session('edge-1', 'web', 3_600);
    await world.leases(web, tcp(8));

    const tool = new Database(join(temporary.directory, 'fishery.db'));
    tool.exec(`UPDATE machines SET state = 'cordoned', intent = 'cordoned'`);
    tool.close();
    expect(await world.grant(web, tcp(8))).toContain('machine_not_active');
  });

  it('is what the transaction before it wrote', async () => {
    await using temporary = await temporaryStore();
    const world = new World(temporary.store);
    await world.pool('v4', ['198.51.100.0/30']);
    await world.machine('edge-1', 'none');
    await world.holder('edge-1', 'web');
    await world.slices('edge-1', 'v4', { count: 1 });
    const web = await world.session('edge-1', 'web', 3_600);
    await world.leases(web, tcp(8));
    await world.end(web);
    expect(await world.grant(web, tcp(8))).toContain('session_ended');
  });
});
