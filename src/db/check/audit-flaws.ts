import type * as rows from '../rows.ts';
import { all, type Read } from '../statement.ts';

const rows_per_step = 2_000;

/** The audit log counts on, does not go back in time, and tells of no change that the log has not come to. */
export function* checkAudit(note: (flaws: readonly string[]) => void, revision: number): Read<void> {
  let last: rows.AuditRow | undefined;
  for (let isLast = false; !isLast;) {
    const page: readonly rows.AuditRow[] = yield* all<rows.AuditRow>(
      'SELECT * FROM audit WHERE id > @after ORDER BY id LIMIT @limit',
      { after: last?.id ?? -1, limit: rows_per_step },
    );
    for (const row of page) {
      if (last && row.id !== last.id + 1) note([`audit-${row.id} follows a gap`]);
      if (last && row.at < last.at) note([`audit-${row.id} goes back in time`]);
      if ((row.revision ?? 0) > revision) note([`audit-${row.id} is ahead of the log`]);
      last = row;
    }
    isLast = page.length < rows_per_step;
  }
}
