import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { leaseStates } from '../../src/wire/leases.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';
import { flawsOf } from '../support/tiling.ts';
import { second, World } from '../support/world.ts';

describe('a server that is killed in the middle of its work', () => {
  it.each([200, 1_000, 3_000])(
    'has everything on disk that it answered, and nothing half (after %i answers)',
    async (answers) => {
      await using temporary = await temporaryStore();
      const world = new World(temporary.store);
      world.clock.us = Date.now() * 1_000;
      await world.pool('v4', ['198.51.100.0/32'], { slicePorts: 256, cooldownUs: { tcp: 0, udp: 0, icmp: 0 } });
      await world.machine('edge-1');
      await world.holder('edge-1', 'web');
      await world.ready('edge-1', 'v4', 2);
      const session = await world.session('edge-1', 'web', 3_600);
      await temporary.store.close();

      const child = spawn(
        process.execPath,
        [join(import.meta.dirname, '../support/load-store.ts'), temporary.directory, String(session.id)],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (output.split('\n').length > answers) child.kill('SIGKILL');
      });
      await once(child, 'close');
      expect(child.signalCode).toBe('SIGKILL');

      // What was answered last about each lease; a line that was cut off was not said.
      const said = new Map<number, string>();
      for (const line of output.split('\n').slice(0, -1)) {
        const [id, state] = line.split(' ');
        said.set(Number(id), state ?? '');
      }
      await temporary.reopen();
      const { tables, events } = readTables(temporary.directory);
      const order = leaseStates as readonly string[];
      const lost = [...said].filter(
        ([id, state]) => order.indexOf(tables.leases.get(id)?.state ?? '') < order.indexOf(state),
      );
      expect(lost).toEqual([]);
      expect(flawsOf(tables, events)).toEqual([]);
      expect(said.size).toBeGreaterThan(answers / 8);

      // And it goes on: what is left over is swept up, and ports are granted again.
      const after = new World(temporary.store);
      after.clock.us = (events.at(-1)?.at ?? 0) + second;
      await after.pass(1);
      await after.alive('edge-1');
      expect(flawsOf(readTables(temporary.directory).tables, readTables(temporary.directory).events)).toEqual([]);
    },
  );
});
