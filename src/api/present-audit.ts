import { itemOf } from '../leases/audit.ts';
import type { AuditChange, AuditEntry } from '../leases/model.ts';
import type * as wire from '../wire/audit.ts';
import { formatInstant } from '../wire/instants.ts';
import {
  presentEpoch,
  presentHolder,
  presentLease,
  presentMachine,
  presentPool,
  presentRevocation,
  presentRouter,
  presentSession,
  presentSlice,
  presentToken,
} from './present.ts';

export const presentAuditEntry = (entry: AuditEntry): wire.AuditEntry => ({
  id: `audit-${entry.id}`,
  at: formatInstant(entry.at),
  actor:
    entry.token === null || entry.role === null
      ? null
      : { token: `token-${entry.token}`, name: entry.tokenName ?? '', role: entry.role },
  request_id: entry.requestId,
  remote_address: entry.remoteAddress,
  operation: entry.operation,
  target: entry.target,
  outcome: entry.outcome,
  code: entry.code,
  revision: entry.revision,
  first_revision: entry.firstRevision,
  // What shows nothing new is bookkeeping: how far a pool has been cut into slices.
  changes: entry.changes.map(presentAuditChange).filter(({ fields }) => Object.keys(fields).length > 0),
  changes_omitted: entry.changesOmitted,
});

/** The things as they were shown before and after, by the same presenters as everywhere: fields have the same names. */
function presentAuditChange(change: AuditChange): wire.AuditChange {
  const [before, after] = shown(change);
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const fields = names
    .filter((name) => !incidental.has(name))
    .map((name) => [name, { before: before?.[name] ?? null, after: after?.[name] ?? null }] as const)
    .filter(([, field]) => JSON.stringify(field.before) !== JSON.stringify(field.after));
  return { item: itemOf(change), fields: Object.fromEntries(fields) };
}

/** Says that something changed, and not what; or is counted rather than set. */
const incidental: ReadonlySet<string> = new Set(['revision', 'updated_at', 'slices']);

type Shown = Readonly<Record<string, unknown>> | null;

function shown(change: AuditChange): readonly [Shown, Shown] {
  const both = <Row>(
    { before, after }: Readonly<{ before: Row | null; after: Row | null }>,
    present: (row: Row) => object,
  ): readonly [Shown, Shown] =>
    // Any object is a record of what it has.
    [before && (present(before) as Shown), after && (present(after) as Shown)];
  switch (change.kind) {
    case 'pool':
      return both(change, (pool) => presentPool(pool, { total: 0n, assigned: 0, cooling: 0 }));
    case 'machine':
      return both(change, presentMachine);
    case 'holder':
      return both(change, presentHolder);
    case 'router':
      return both(change, presentRouter);
    case 'slice':
      return both(change, presentSlice);
    case 'session':
      return both(change, presentSession);
    case 'lease':
      return both(change, presentLease);
    case 'revocation':
      return both(change, presentRevocation);
    case 'token':
      return both(change, presentToken);
    case 'epoch':
      return both(change, presentEpoch);
  }
}
