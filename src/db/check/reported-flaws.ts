import { rangeContains } from '../../net/ports.ts';
import type { Tenure } from '../../leases/model.ts';
import type { Broker, ReportedLease } from '../../leases/reported.ts';
import { all, type Read } from '../statement.ts';
import { brokerOf, reportedLeaseOf, type BrokerRow, type ReportedLeaseRow } from '../reported-rows.ts';
import { tenureOf, type TenureRow } from '../rows.ts';

/** What does not hold of a lease that a machine reported: somebody told of it, and it was in a slice of theirs to grant in. */
export function flawsOfReported(
  lease: ReportedLease,
  broker: Broker | undefined,
  tenure: Tenure | undefined,
  historySince: number | null,
): readonly string[] {
  const item = `lease-${lease.id} of the broker of ${lease.machine}`;
  const flaws: string[] = [];
  if (!broker) flaws.push(`${item} was told of by a broker that there is not`);
  else if (lease.incarnation > broker.incarnation || lease.told > broker.told)
    flaws.push(`${item} was told of after all that its broker told`);
  // What a machine had so long ago is forgotten, and what it granted there with it.
  if (!tenure && historySince === null) flaws.push(`${item} is in a slice that its machine never had`);
  if (tenure && (tenure.machine !== lease.machine || tenure.allocator !== 'machine'))
    flaws.push(`${item} is in generation ${tenure.generation} of slice-${tenure.slice}, which was not its to grant in`);
  if (tenure && (tenure.address !== lease.address || !rangeContains(tenure.ports, lease.ports)))
    flaws.push(`${item} is not within slice-${tenure.slice}`);
  return flaws;
}

const rows_per_step = 2_000;

/** Holds every lease that machines reported against what they had. */
export function* checkReported(note: (flaws: readonly string[]) => void, historySince: number | null): Read<void> {
  const found = yield* all<BrokerRow>('SELECT * FROM brokers');
  const brokers = new Map(found.map((row) => [row.machine, brokerOf(row)]));
  let after = { machine: '', incarnation: 0, id: 0 };
  for (;;) {
    const page: readonly ReportedLeaseRow[] = yield* all<ReportedLeaseRow>(
      `SELECT * FROM reported_leases WHERE (machine, incarnation, id) > (@machine, @incarnation, @id)
       ORDER BY machine, incarnation, id LIMIT @limit`,
      { ...after, limit: rows_per_step },
    );
    for (const row of page) {
      const { slice, generation } = row;
      const [tenure] = yield* all<TenureRow>(
        'SELECT * FROM tenures WHERE slice = @slice AND generation = @generation',
        { slice, generation },
      );
      note(flawsOfReported(reportedLeaseOf(row), brokers.get(row.machine), tenure && tenureOf(tenure), historySince));
      after = { machine: row.machine, incarnation: row.incarnation, id: row.id };
    }
    if (page.length < rows_per_step) return;
  }
}
