import { AuditQuery, type AuditEntry } from '../../wire/audit.ts';
import type { Columns } from '../output/table.ts';
import { instantField } from './fields.ts';
import { filtersOf, listVerb } from './verb.ts';

const columns: Columns<AuditEntry> = {
  at: ({ at }) => at,
  actor: ({ actor }) => (actor === null ? null : `${actor.name} (${actor.token})`),
  from: ({ remote_address }) => remote_address,
  operation: ({ operation }) => operation,
  target: ({ target }) => target,
  outcome: ({ outcome, code }) => (code === null ? outcome : `${outcome} (${code})`),
  request: ({ request_id }) => request_id,
  changed: ({ changes, changes_omitted }) =>
    [...new Set(changes.flatMap(({ fields }) => Object.keys(fields)))].join(', ') +
    (changes_omitted === 0 ? '' : `, and ${changes_omitted} more things`),
};

export const verbs = [
  listVerb({
    name: 'list',
    summary: 'See who did what, the newest first',
    operations: ['listAudit'],
    flags: filtersOf(AuditQuery).extend({
      since: instantField.optional().meta({ description: 'From this instant on, or how long ago: 15m, 2h' }),
      until: instantField.optional().meta({ description: 'Before this instant, or how long ago' }),
    }),
    page: ({ client, flags, options }, page) => client.audit({ ...flags, ...page }, options),
    columns,
  }),
];
