/**
 * A server's core under load, to be killed in the middle of it: grants, reports, releases and sweeps on the store whose
 * directory or URL it is given. It writes a line for each command that was answered, `lease-id state`, before it asks for more.
 */
import { writeSync } from 'node:fs';
import { isPostgresUrl, openStore } from '../../src/db/open.ts';
import { LeaseService } from '../../src/leases/lease-service.ts';
import { formatToken, type Lease } from '../../src/leases/model.ts';
import { must, tcp, udp } from './world.ts';

const where = process.argv[2] ?? '';
const location = isPostgresUrl(where) ? { url: where, directory: '' } : { url: undefined, directory: where };
const store = await openStore(location, { newEpoch: () => 'epoch-1', nowUs: () => 0 });
const session = Number(process.argv[3]);
const service = new LeaseService({
  store,
  clock: { nowUs: () => Math.floor((performance.timeOrigin + performance.now()) * 1_000) },
});
const told = (leases: readonly Lease[]) => {
  for (const lease of leases) writeSync(1, `${lease.id} ${lease.state}\n`);
};

async function worker(turn: number): Promise<void> {
  for (;;) {
    const claims = [tcp(1 + (turn % 4)), udp(1)];
    const granted = await service.execute({ kind: 'grantLeases', scope: {}, session, claims });
    if (!granted.ok) {
      await service.execute({ kind: 'sweep', itemsMax: 50 });
      continue;
    }
    told(granted.value);
    for (const lease of granted.value) {
      const token = formatToken(lease);
      const report = (state: 'active' | 'empty') =>
        service.execute({
          kind: 'report',
          machine: lease.machine,
          revision: 0,
          slices: [],
          leases: [{ lease: lease.id, token, state }],
        });
      must(await report('active'));
      writeSync(1, `${lease.id} active\n`);
      told([must(await service.execute({ kind: 'releaseLease', scope: {}, id: lease.id, token }))]);
      must(await report('empty'));
      writeSync(1, `${lease.id} cooling\n`);
    }
  }
}
await Promise.all(Array.from({ length: 32 }, (_, turn) => worker(turn)));
