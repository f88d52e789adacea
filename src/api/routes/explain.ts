import type { LeaseError } from '../../leases/errors.ts';
import type { Commands, Explanation } from '../../leases/commands.ts';
import { everything } from '../../leases/commands.ts';
import type { Lease } from '../../leases/model.ts';
import * as wire from '../../wire/explain.ts';
import { formatInstant } from '../../wire/instants.ts';
import { detailOf, errorKinds } from '../errors.ts';
import * as examples from '../examples/explain.ts';
import { operation } from '../operation.ts';
import { principalOf, scopeOf, type Principal } from '../principal.ts';
import { numberOf } from '../requests.ts';
import { resource, run } from '../resource.ts';
import { claimOf } from '../wire-claims.ts';

export const explainRoutes = resource('explain', (app, context) => {
  app.post(
    '/v1/explain',
    {
      schema: { body: wire.Explain, response: { 200: wire.Explanation } },
      config: operation({
        id: 'explainGrant',
        forwarded: true,
        tag: 'leases',
        summary: 'Find out why claims would be granted, or why not',
        description:
          'Decided by the very rules that decide grants, from one state of the table; nothing is granted. With how full the ' +
          'machine is, and when the next ports leave their rest. Takes as many claims as a grant, and tells of each what is in ' +
          'its way, so that all can be mended at once.',
        answers: { 200: 'What would be granted or the reason why nothing would, and how full the machine is.' },
        errors: ['session_not_found', 'machine_not_found', 'holder_not_found'],
        repeatable: true,
        examples: { body: examples.explain, answers: { 200: examples.explanation } },
      }),
    },
    async (request) => {
      const { claims, placement } = request.body;
      const explained = await run(context, request, {
        kind: 'explainGrant',
        ...askerOf(principalOf(request), request.body),
        claims: claims.map(claimOf),
        placement,
      });
      return presentExplanation(explained);
    },
  );
});

type Asker = Pick<Commands['explainGrant']['input'], 'scope'> &
  (Readonly<{ session: number }> | Readonly<{ bystander: string }> | Readonly<{ reservation: Reserved }>);
type Reserved = Readonly<{ machine: string; holder: string; unit: null }>;

/** A viewer asks about everybody; a holder that names nobody, about itself. */
function askerOf(principal: Principal, { session, machine = '', holder }: wire.Explain): Asker {
  const scope = principal.role === 'viewer' ? everything : scopeOf(principal);
  if (session !== undefined) return { scope, session: numberOf(session) };
  const whose = holder ?? principal.holder;
  if (whose === null) return { scope, bystander: machine };
  return { scope, reservation: { machine, holder: whose, unit: null } };
}

const presentExplanation = ({ machine, holder, verdict, failed, claims, revision }: Explanation): wire.Explanation => ({
  granted: verdict.ok,
  reason: verdict.ok ? null : reasonOf(verdict.error),
  failed_claim: failed,
  leases: verdict.ok ? verdict.value.map(presentSpot) : [],
  machine: machine.id,
  machine_state: machine.state,
  holder,
  claims: claims.map(({ error, rooms, nextRestAt }) => ({
    granted: error === null,
    reason: error && reasonOf(error),
    rooms: rooms.map(({ pool, family, unsuitable, ports, largest }) => ({
      ...{ pool, family, unsuitable, ports: { ...ports } },
      largest_block_ports: largest,
    })),
    next_ports_at: nextRestAt === null ? null : formatInstant(nextRestAt),
  })),
  revision,
});

function reasonOf(error: LeaseError): NonNullable<wire.Explanation['reason']> {
  const { title, cause, remedy } = errorKinds[error.code];
  return { code: error.code, title, detail: detailOf(error), cause, remedy };
}

const presentSpot = ({ slice, pool, address, protocol, ports, mode }: Lease): wire.Explanation['leases'][number] => ({
  slice: `slice-${slice}`,
  ...{ pool, address, protocol, ports, mode },
});
