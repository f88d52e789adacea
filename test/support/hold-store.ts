/** A process that opens the store in the directory it is given, says so, and keeps it open until it is killed. */
import { openSqliteStore } from '../../src/db/sqlite/open.ts';

await openSqliteStore({ directory: process.argv[2] ?? '', newEpoch: () => 'epoch-1', nowUs: () => 0 });
process.stdout.write('open\n');
setInterval(() => {}, 1_000);
