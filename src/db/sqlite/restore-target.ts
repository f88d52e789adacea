import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../leases/store.ts';
import { makeDataDirectory } from '../directory.ts';
import type { RestoreTarget } from '../dump/restore.ts';
import { tableShapes } from '../tables.ts';
import { heldSql, usageSql } from '../usage.ts';
import { storeErrorOf } from './errors.ts';
import { standingOf } from './epoch-rows.ts';
import { lockDirectory } from './lock.ts';
import { HighWaterMark, removeMark } from './mark.ts';
import { upgrade } from './migrations.ts';
import { connect } from './open.ts';
import { RowWriter } from './row-writer.ts';
import * as schema from './schema.ts';
import { Statements, type Connection } from './statements.ts';

/**
 * A database in the directory that has nothing in it; it is made when missing, and removed again when nothing comes of it: a
 * server would serve an empty table on it. No server may run on it.
 */
export async function openSqliteTarget(directory: string): Promise<RestoreTarget> {
  makeDataDirectory(directory);
  const unlock = lockDirectory(directory);
  const file = join(directory, 'fishery.db');
  const isNew = !existsSync(file);
  const remove = () => {
    if (isNew) for (const end of ['-wal', '-shm', '']) rmSync(`${file}${end}`, { force: true });
  };
  let connection: Connection | undefined;
  try {
    connection = connect(file, undefined);
    upgrade(connection);
    for (const { name, key } of tableShapes)
      if (key !== 'epochs' && connection.prepare(`SELECT 1 FROM ${name} LIMIT 1`).get() !== undefined)
        throw new StoreError('io', `the database in ${directory} is not empty: restore into a new directory`);
    connection.exec('BEGIN IMMEDIATE');
    connection.exec('DELETE FROM epochs');
    return targetOn(connection, directory, { unlock, remove });
  } catch (error) {
    connection?.close();
    remove();
    unlock();
    throw storeErrorOf(error);
  }
}

type Ends = Readonly<{ unlock: () => void; remove: () => void }>;

function targetOn(connection: Connection, directory: string, { unlock, remove }: Ends): RestoreTarget {
  let isKept = false;
  const statements = new Statements(connection);
  const attempt = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw storeErrorOf(error);
    }
  };
  return {
    run: async (read) => attempt(() => statements.run(read)),
    // Nothing was read from it: what is written is as it was taken.
    damage: async () => [],
    insert: async ({ key }, rows) =>
      attempt(() => {
        new RowWriter(connection, schema[key]).insert(rows);
      }),
    count: async () =>
      attempt(() => void connection.exec(`INSERT INTO port_counts ${usageSql}; INSERT INTO held_ports ${heldSql}`)),
    finish: async ({ moved }) =>
      attempt(() => {
        // Before the commit: a mark of an epoch that the database is not in yet shows a loss, and one that is missing too.
        removeMark(directory);
        if (moved) {
          const { epoch, revision } = standingOf(connection);
          new HighWaterMark(directory, { epoch, reached: revision }).close();
        }
        connection.exec('COMMIT');
        isKept = true;
      }),
    [Symbol.asyncDispose]: async () => {
      // Undoes what was not committed.
      connection.close();
      if (!isKept) remove();
      unlock();
    },
  };
}
