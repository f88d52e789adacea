import { z } from 'zod';
import type { Recipient } from '../../leases/commands.ts';
import type { Lease } from '../../leases/model.ts';
import { overOf } from '../../leases/replays.ts';
import { BrokerOf } from '../../wire/broker.ts';
import * as wire from '../../wire/leases.ts';
import { LeaseId } from '../../wire/primitives.ts';
import * as examples from '../examples.ts';
import { grantAtOnce, grantUntilApplied } from '../grant-elsewhere.ts';
import { operation } from '../operation.ts';
import { page, presentLease, presentReportedLease } from '../present.ts';
import { brokerAskedFor } from '../plugins/forwarding.ts';
import { notYours, principalOf, requireOwn, scopeOf, type Principal } from '../principal.ts';
import { apiProblem, leaseProblem } from '../problems.ts';
import { defined, numberOf, pageRequest } from '../requests.ts';
import { isDryRun, resource, run } from '../resource.ts';
import { microseconds } from '../units.ts';
import { claimOf } from '../wire-claims.ts';

/** An agent makes a lease true within this, when it is there at all. */
const look_again_s = 1;
const ByLeaseId = z.strictObject({ id: LeaseId });

export const leaseRoutes = resource('leases', (app, context) => {
  app.post(
    '/v1/leases',
    {
      schema: {
        querystring: wire.GrantQuery,
        body: wire.LeaseGrant,
        response: { 201: wire.LeaseList, 202: wire.LeaseList },
      },
      config: operation({
        id: 'grantLeases',
        forwarded: true,
        tag: 'leases',
        summary: 'Lease ports, for one claim or for many',
        description:
          'All claims are granted, or none; one with `count` is so many claims that are alike. With `wait=applied` the answer comes when the agent has made every lease true. ' +
          'What the kernel refuses is tried on other ports, unless `at` asked for these; when that is of no use either, every ' +
          'lease of the request is released and the answer is `claim_refused`. A lease that was granted ' +
          'stays when the caller goes away before the answer: it is listed under its session, and ends with it. With ' +
          '`reservation` instead of `session` leases have no session, and stay until somebody ends them.',
        answers: {
          201: 'Every lease is active; with `wait=stored`, durable and possibly still `pending`.',
          202: 'Durable, but the agent has not made all of them true in time. They stay `pending` until it does.',
        },
        errors: [
          'session_not_found',
          'session_ended',
          'machine_not_found',
          'holder_not_found',
          'machine_not_active',
          'pool_not_found',
          'shared_needs_tcp',
          'binding_needs_shared',
          'ports_exceed_slice',
          'block_misaligned',
          'block_not_owned',
          'block_taken',
          'no_slices',
          'machine_allocates',
          'no_ports',
          'no_common_address',
          'holder_ports_exceeded',
          'ports_kept_for_others',
          'claim_refused',
          'lease_over',
          'replay_over',
        ],
        dryRun: true,
        examples: { body: examples.leaseGrant, answers: { 201: examples.granted, 202: examples.grantedPending } },
      }),
    },
    async (request, reply) => {
      const { body, query } = request;
      const scope = scopeOf(principalOf(request));
      const asked = {
        scope,
        ...recipientOf(principalOf(request), body),
        claims: body.claims.map(claimOf),
        placement: body.placement,
      };
      if (query.wait === 'stored' || isDryRun(request)) {
        const leases = await grantAtOnce(context, request, asked);
        const over = request.isReplay ? overOf(leases) : undefined;
        if (over) throw leaseProblem(over, context.clock.nowUs());
        return reply.code(201).send(listOf(leases));
      }
      const leases = await grantUntilApplied(context, request, { ...asked, timeoutMs: query.timeout_s * 1_000 });
      if (leases.every((lease) => lease.state === 'active')) return reply.code(201).send(listOf(leases));
      return reply.code(202).header('retry-after', look_again_s).send(listOf(leases));
    },
  );

  app.get(
    '/v1/leases',
    {
      schema: { querystring: wire.LeaseListQuery, response: { 200: wire.LeasePage } },
      config: operation({
        id: 'listLeases',
        tag: 'leases',
        summary: 'List leases',
        description: 'Holders see their own, agents those of their machine; ended leases stay listed.',
        answers: { 200: 'One page of leases that match every filter given.' },
        errors: [],
        examples: { answers: { 200: examples.pageWith(examples.lease) } },
      }),
    },
    async (request) => {
      const { allocator, limit, cursor, session, reserved, slice, select, select_machine, ...names } = request.query;
      const pageAsked = pageRequest({ limit, cursor }, 'number');
      const filter = defined({
        ...names,
        ...ownLeasesOnly(principalOf(request), names),
        session: reserved ? null : session === undefined ? undefined : numberOf(session),
        slice: slice === undefined ? undefined : numberOf(slice),
        poolLabels: select,
        machineLabels: select_machine,
      });
      // A broker asked for what machines grant is asked for its own.
      if (allocator === 'server' || context.callers)
        return page(await context.reader.leases(filter, pageAsked), presentLease);
      // The schema has seen to it that there is a machine, and nothing of labels.
      const { machine = '', poolLabels: _, machineLabels: __, ...rest } = filter;
      const found = await context.reader.reportedLeases(machine, rest, context.clock.nowUs(), pageAsked);
      return page(found, presentReportedLease);
    },
  );

  app.get(
    '/v1/leases/:id',
    {
      schema: { params: ByLeaseId, querystring: BrokerOf, response: { 200: wire.Lease } },
      config: operation({
        id: 'getLease',
        tag: 'leases',
        summary: 'Read one lease',
        description: 'Holders read their own, agents those of their machine.',
        answers: { 200: 'The lease.' },
        errors: ['lease_not_found'],
        examples: { answers: { 200: examples.lease } },
      }),
    },
    async (request) => {
      const id = numberOf(request.params.id);
      const broker = context.callers ? undefined : brokerAskedFor(request);
      if (broker !== undefined) {
        const reported = await context.reader.reportedLease(broker, id, context.clock.nowUs());
        if (reported === undefined) throw leaseProblem({ code: 'lease_not_found', lease: id }, context.clock.nowUs());
        requireOwn(principalOf(request), reported, request.params.id);
        return presentReportedLease(reported);
      }
      const lease = await context.reader.lease(id);
      if (lease === undefined) throw leaseProblem({ code: 'lease_not_found', lease: id }, context.clock.nowUs());
      requireOwn(principalOf(request), lease, request.params.id);
      return presentLease(lease);
    },
  );

  app.post(
    '/v1/leases/:id/release',
    {
      schema: { params: ByLeaseId, body: wire.LeaseRelease, response: { 200: wire.Lease } },
      config: operation({
        id: 'releaseLease',
        forwarded: true,
        tag: 'leases',
        summary: 'Give a lease back',
        description: 'Names the token of the lease, so that a message that comes late cannot end what came after.',
        answers: { 200: 'The lease, `ending` until its ports are proven unused.' },
        errors: ['lease_not_found', 'lease_over', 'stale_token', 'replay_over'],
        dryRun: true,
        examples: { body: examples.leaseRelease, answers: { 200: examples.releasedLease } },
      }),
    },
    async (request) =>
      presentLease(
        await run(context, request, {
          kind: 'releaseLease',
          scope: scopeOf(principalOf(request)),
          id: numberOf(request.params.id),
          token: request.body.token,
        }),
      ),
  );

  app.post(
    '/v1/leases/:id/revoke',
    {
      schema: { params: ByLeaseId, body: wire.LeaseRevoke.optional(), response: { 200: wire.Lease } },
      config: operation({
        id: 'revokeLease',
        forwarded: true,
        tag: 'leases',
        summary: 'Take a lease from its holder',
        description:
          'At once, or at `deadline_s`: until then the lease is what it was, and a revocation that names it waits.',
        answers: { 200: 'The lease: `ending` until its ports are proven unused, or as it goes on to its deadline.' },
        errors: ['lease_not_found', 'lease_over', 'replay_over'],
        dryRun: true,
        examples: { body: examples.leaseRevoke, answers: { 200: examples.revokedLease } },
      }),
    },
    async (request) => {
      const { params, body } = request;
      const { deadline_s, forced = false, reason = '' } = body ?? {};
      const deadlineUs = deadline_s === undefined ? null : microseconds(deadline_s);
      const command = { kind: 'revokeLease', id: numberOf(params.id), deadlineUs, forced, reason } as const;
      return presentLease(await run(context, request, command));
    },
  );
});

/** By a session, or without one. Leases that nobody has to keep alive are an operator's to give. */
function recipientOf(principal: Principal, { session, reservation }: wire.LeaseGrant): Recipient {
  if (reservation === undefined) return { session: numberOf(session ?? '') };
  if (principal.role !== 'operator')
    throw apiProblem('forbidden', `a ${principal.role} token cannot reserve; the roles that can: operator`);
  return { reservation: { ...reservation, unit: reservation.unit ?? null } };
}

/** The state in which the leases are shown is the one of `revision`. */
const listOf = (leases: readonly Lease[]): wire.LeaseList => ({
  leases: leases.map(presentLease),
  revision: Math.max(0, ...leases.map((lease) => lease.revision)),
});

type Names = Readonly<{ machine?: string | undefined; holder?: string | undefined }>;

/** Narrows a list to what is the caller's own; asking for somebody else's by name is an error, not an empty list. */
function ownLeasesOnly({ role, machine, holder }: Principal, asked: Names): Names {
  if (role !== 'agent' && role !== 'holder') return {};
  const own = { machine: machine ?? undefined, holder: role === 'holder' ? (holder ?? undefined) : undefined };
  if (asked.machine !== undefined && asked.machine !== own.machine) throw notYours(`machine "${asked.machine}"`);
  if (own.holder === undefined) return { machine: own.machine };
  if (asked.holder !== undefined && asked.holder !== own.holder) throw notYours(`holder "${asked.holder}"`);
  return own;
}
