import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { check, type CheckReport } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { fillTable } from '../support/full-table.ts';
import { temporaryStore, type TemporaryStore } from '../support/temporary-store.ts';

async function checked({ directory }: TemporaryStore): Promise<CheckReport> {
  await using snapshot = await openSnapshot({ url: undefined, directory });
  return await check(snapshot);
}

/** Past every guard of the database: as a bug, a bad disk or a hand that means well would leave it. */
function spoil({ directory }: TemporaryStore, sql: string): void {
  const connection = new Database(join(directory, 'fishery.db'));
  connection.pragma('foreign_keys = OFF');
  connection.pragma('ignore_check_constraints = ON');
  const triggers = connection
    .prepare<[], { name: string }>(`SELECT name FROM sqlite_master WHERE type = 'trigger'`)
    .all();
  for (const { name } of triggers) connection.exec(`DROP TRIGGER ${name}`);
  connection.exec('DROP INDEX leases_live; DROP INDEX slices_place; DROP INDEX slices_owned');
  connection.exec(sql);
  expect(connection.prepare<[], { count: number }>('SELECT total_changes() AS count').get()?.count).toBeGreaterThan(0);
  connection.close();
}

describe('a check of the database', () => {
  it('finds nothing in a table that has something of everything, while its server goes on', async () => {
    await using temporary = await temporaryStore();
    const world = await fillTable(temporary.store);
    const report = await checked(temporary);
    expect(report).toMatchObject({ flaws: [], flawCount: 0, revision: await temporary.store.reader.revision() });
    const { slices, leases, sessions, events } = report.counts;
    expect([slices > 8, leases > 10, sessions > 4, events]).toEqual([true, true, true, report.revision]);
    expect(await world.machine('edge-9')).toBe('edge-9');
    await temporary.store.compact({ keep: 20, rowsMax: 1_000 });
    expect(await checked(temporary)).toMatchObject({ flaws: [], counts: { events: 20 } });
  });

  const some = (table: string, where: string) => `(SELECT min(rowid) FROM ${table} WHERE ${where})`;
  it.each<[string, string, RegExp]>([
    ['a lease that is gone', `DELETE FROM leases WHERE id = ${some('leases', "state = 'active'")}`, /belong to nobody/],
    [
      'an extent that is gone',
      `DELETE FROM extents WHERE rowid = ${some('extents', "state = 'free'")}`,
      /belong to nobody/,
    ],
    [
      'an extent that grew over a lease',
      `UPDATE extents SET last_port = last_port + 1 WHERE rowid = ${some('extents', "protocol = 'tcp' AND slice IN (SELECT slice FROM leases WHERE state = 'active')")}`,
      /overlaps|outside of it/,
    ],
    [
      'a lease granted twice',
      `INSERT INTO leases SELECT 99999, slice, generation, epoch, session, unit, machine, holder, pool, address, protocol,
       first_port, last_port, mode, binding, state, ending, refusal_errno, refusal_detail, reason, forced, granted_at, active_at,
       ending_at, empty_at, reusable_at, ended_at, revision FROM leases WHERE state = 'active' LIMIT 1`,
      /lease-99999 overlaps lease-|lease-\d+ overlaps lease-99999/,
    ],
    ['a member too few', 'UPDATE shared_blocks SET members = members - 1', /counts \d+ members, not \d+/],
    ['an extent that hides', `UPDATE extents SET offered = 0`, /is not offered/],
    [
      'an extent that another grants in',
      `UPDATE extents SET offered = 0, allocator = 'machine'`,
      /says that the machine grants in it/,
    ],
    [
      'a tenure in which another granted',
      `UPDATE tenures SET allocator = 'machine'`,
      /says that the machine granted in it/,
    ],
    ['an extent that fits more than it has', 'UPDATE extents SET fit = 16', /says that it fits 16/],
    [
      'a slice on another machine',
      `UPDATE slices SET machine = 'bare' WHERE state = 'assigned'`,
      /on machine|tenure of another/,
    ],
    [
      'a slice that is filed under another address',
      `UPDATE slices SET address_key = '4ffffffff' WHERE id = (SELECT min(id) FROM slices)`,
      /slice-\d+ is filed under another address/,
    ],
    [
      'two slices in one place',
      `UPDATE slices SET (address, address_key, first_port, last_port) = (SELECT address, address_key, first_port, last_port FROM slices
       WHERE machine IS NOT NULL ORDER BY id LIMIT 1)
       WHERE id = (SELECT max(id) FROM slices WHERE machine IS NOT NULL)`,
      /slice-\d+ and slice-\d+ overlap/,
    ],
    [
      'a lease of no session',
      `UPDATE leases SET session = 77777 WHERE state = 'active'`,
      /session-77777, which there is not/,
    ],
    ['a lease of another holder', `UPDATE leases SET holder = 'fish' WHERE state = 'active'`, /different holders/],
    [
      'two holders with one user id',
      `UPDATE holders SET uid = 900, cgroup = NULL WHERE kind = 'proxy'`,
      /have user id 900/,
    ],
    [
      'a holder with a user id and a cgroup',
      `UPDATE holders SET cgroup = name, uid = 900 WHERE name = 'web'`,
      /holder web on \S+ has a user id and a cgroup/,
    ],
    [
      'two holders in cgroups that overlap',
      `UPDATE holders SET uid = NULL, cgroup = 'a.slice/' || kind || CASE name WHEN 'web' THEN '' ELSE '/' || name END`,
      /holders web and \S+ on \S+ have cgroups that overlap: a.slice\/proxy\/ and a.slice\/proxy/,
    ],
    [
      'a holder that is gone',
      `DELETE FROM holders WHERE name = 'web'`,
      /lease-\d+ is of holder web on \S+, which there is not/,
    ],
    [
      'a live session of nobody',
      `UPDATE sessions SET holder = 'nobody' WHERE state = 'live'`,
      /session-\d+ is of holder nobody on \S+, which there is not/,
    ],
    [
      'a token of nobody',
      `UPDATE access_tokens SET machine = 'edge-1', holder = 'nobody', revoked_at = NULL`,
      /token-\d+ is of holder nobody on edge-1, which there is not/,
    ],
    ['a lease before its time', `UPDATE leases SET granted_at = 5`, /outside of its machine's tenure/],
    ['a slice that nobody had', 'DELETE FROM tenures', /tenures|nobody had/],
    ['a count of ports that is too high', 'UPDATE port_counts SET ports = ports + 1', /ports, kept as \d+/],
    ['a count of what a holder has', 'UPDATE held_ports SET ports = ports + 1', /web\/tcp has \d+ ports, kept as \d+/],
    ['a limited holder that is not counted', 'UPDATE machines SET limited_holders = 0', /1 limited holders, kept as 0/],
    ['a slice that its machine does not grant in', 'UPDATE machines SET own_slices = 7', /itself, kept as 7/],
    ['a reported lease that nobody told of', 'DELETE FROM brokers', /lease-12 of the broker of edge-1 .* there is not/],
    ['one that was told of too late', 'UPDATE reported_leases SET told = 7', /after all that its broker told/],
    ['one in no slice', 'UPDATE reported_leases SET generation = 7', /in a slice that its machine never had/],
    [
      'one in a slice of the server’s',
      "UPDATE tenures SET allocator = 'server' WHERE allocator = 'machine'",
      /which was not its to grant in/,
    ],
    ['one on other ports', 'UPDATE reported_leases SET last_port = 65535', /is not within slice-/],
    ['a hole in the log', 'DELETE FROM events WHERE revision = 20', /revision 21 follows a gap/],
    ['a hole in the audit log', 'DELETE FROM audit WHERE id = 2', /audit-3 follows a gap/],
    ['an audit log out of time', 'UPDATE audit SET at = 5 WHERE id = 2', /audit-2 goes back in time/],
    ['an act that nothing came of', 'UPDATE audit SET revision = 999999 WHERE id = 1', /audit-1 is ahead of the log/],
    [
      'a log out of time',
      'UPDATE events SET at = at - 100000000000 WHERE revision = 20',
      /revision 20 goes back in time/,
    ],
    [
      'a row that the log does not know',
      `UPDATE machines SET fence_us = 1 WHERE id = 'edge-1'`,
      /machine-edge-1 is not as/,
    ],
    [
      'a lease that is settled and lives',
      `UPDATE sessions SET state = 'ended', settled = 1, ending = 'expired'`,
      /has been settled/,
    ],
    [
      'rows of a slice that is gone',
      'DELETE FROM slices WHERE id = (SELECT min(slice) FROM extents)',
      /of slice-\d+, which there is not/,
    ],
  ])('finds %s', async (_, sql, flaw) => {
    await using temporary = await temporaryStore();
    await fillTable(temporary.store);
    await temporary.store.close();
    spoil(temporary, sql);
    const { flaws, flawCount } = await checked(temporary);
    expect(flawCount).toBeGreaterThan(0);
    expect(flaws.join('\n')).toMatch(flaw);
  });
});
