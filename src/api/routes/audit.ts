import { AuditPage, AuditQuery } from '../../wire/audit.ts';
import { parseInstant } from '../../wire/instants.ts';
import * as examples from '../examples/audit.ts';
import { operation } from '../operation.ts';
import { page } from '../present.ts';
import { presentAuditEntry } from '../present-audit.ts';
import { defined, numberOf, pageRequest } from '../requests.ts';
import { resource } from '../resource.ts';

export const auditRoutes = resource('audit', (app, context) => {
  app.get(
    '/v1/audit',
    {
      schema: { querystring: AuditQuery, response: { 200: AuditPage } },
      config: operation({
        id: 'listAudit',
        tag: 'log',
        summary: 'See who did what',
        description:
          'Every change that operators and routers asked for, with what came of it, written in the transaction of the change; ' +
          'and requests of anybody who was turned away, as far as not too many come at once. What holders and agents do is in ' +
          'the log of changes (`GET /v1/events`).',
        answers: { 200: 'One page of entries that match every filter given, the newest first.' },
        errors: [],
        examples: { answers: { 200: examples.auditPage } },
      }),
    },
    async ({ query: { limit, cursor, actor, request_id, target, since, until, ...filter } }) => {
      const asked = defined({
        ...filter,
        requestId: request_id,
        target: target === undefined ? undefined : pathOf(target),
        token: actor === undefined ? undefined : numberOf(actor),
        since: since === undefined ? undefined : parseInstant(since),
        until: until === undefined ? undefined : parseInstant(until),
      });
      return page(await context.reader.audit(asked, pageRequest({ limit, cursor }, 'number')), presentAuditEntry);
    },
  );
});

/** `lease-42` is in the path of `leases/lease-42`; what has a slash is a path, and names are no identifiers. */
const pathOf = (target: string): string =>
  target.replace(/^(lease|slice|session|revocation|token)-[1-9]\d{0,15}$/, '$1s/$&');
