import { isAbout, madeAt } from '../leases/audit.ts';
import type { AuditEntry } from '../leases/model.ts';
import type { AuditFilter, PageOf, PageRequest } from '../leases/store.ts';
import { newestFirst, scan } from './paging.ts';
import * as rows from './rows.ts';
import { all, type Read } from './statement.ts';

/** The act that made what came to be at a revision, if it is in the log at all: others may have come before it. */
const maker = `SELECT id FROM (
  SELECT id, first_revision FROM audit WHERE first_revision IS NOT NULL AND revision >= @made ORDER BY revision LIMIT 1
) AS next WHERE first_revision <= @made`;

/** Who did what, the newest first: what `Reader.audit` tells. */
export function* auditLog(
  { since, until, target, ...filter }: AuditFilter,
  page: PageRequest,
): Read<PageOf<AuditEntry>> {
  const { requestId, token, operation } = filter;
  // Each of these is an index in the order of ids; the narrowest that was asked for leads, the others are looked at row by row.
  const columns = { request_id: requestId, target, token, operation };
  const [leading] = Object.entries(columns).filter(([, value]) => value !== undefined);
  const range = [
    // Times rise with ids, so an instant is a place in the order: one step in an index.
    ...(since === undefined ? [] : ['id >= (SELECT id FROM audit WHERE at >= @since ORDER BY at, id LIMIT 1)']),
    ...(until === undefined
      ? []
      : ['id <= (SELECT id FROM audit WHERE at < @until ORDER BY at DESC, id DESC LIMIT 1)']),
    'id < @after',
  ].join(' AND ');
  const made = target === undefined || leading?.[0] !== 'target' ? null : madeAt(target);
  const list = (where: string) => `SELECT * FROM audit WHERE ${where} AND ${range} ORDER BY id DESC LIMIT @limit`;
  const own = list(leading === undefined ? 'true' : `${leading[0]} = @leading`);
  const sql =
    made === null
      ? own
      : `SELECT * FROM (${own}) AS own
         UNION ALL SELECT * FROM (${list(`target <> @leading AND id = (${maker})`)}) AS making
         ORDER BY id DESC LIMIT @limit`;
  const given = {
    ...(leading?.[1] === undefined ? {} : { leading: leading[1] }),
    ...(made === null ? {} : { made }),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
  };
  const read = (after: string | number, limit: number) => all<rows.AuditRow>(sql, { ...given, after, limit });
  const isMeant = (entry: AuditEntry) => target === undefined || isAbout(entry, target);
  return yield* scan(page, newestFirst, { fields: filter, isMeant }, rows.auditOf, read);
}
