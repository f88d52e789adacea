import { z } from 'zod';
import { protocols } from '../../net/protocol.ts';
import * as wire from '../../wire/machines.ts';
import { Name } from '../../wire/primitives.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { page, presentHolder } from '../present.ts';
import { ifRevisionOf, ifRevisionOfPut, showRevision } from '../preconditions.ts';
import { principalOf, requireOwn } from '../principal.ts';
import { leaseProblem } from '../problems.ts';
import { ById, defined, pageRequest } from '../requests.ts';
import { machineOf, resource, run } from '../resource.ts';

const ByName = z.strictObject({ id: Name, name: Name });

export const holderRoutes = resource('holders', (app, context) => {
  app.put(
    '/v1/machines/:id/holders/:name',
    {
      schema: {
        params: ByName,
        body: wire.HolderPut,
        response: { 200: wire.Holder },
      },
      config: operation({
        id: 'putHolder',
        tag: 'machines',
        summary: 'Declare who may use ports on a machine',
        description:
          'A fish forwards packets through the TUN device; a proxy opens sockets, and the egress guard of the host knows ' +
          'it by their user id or their control group. Putting the same again changes nothing. The kind stays what it was ' +
          'first; a `uid`, a `cgroup` and `limits` that are left out stay, too, but of uid and cgroup the one that is given ' +
          'takes the place of the other; null takes them away. `limits` are set as a whole: how many ports and sessions it ' +
          'may have, and how many ports are kept for it. With If-Match only a holder that is there is changed, with ' +
          '`If-None-Match: *` only one that is not there is made.',
        answers: { 200: 'The holder as it is now.' },
        errors: [
          'machine_not_found',
          'holder_needs_identity',
          'holder_uid_root',
          'holder_uid_taken',
          'holder_cgroup_taken',
          'holder_kind_fixed',
          'limited_holders_exceeded',
        ],
        revision: 'optional',
        dryRun: true,
        examples: { body: examples.holderPut, answers: { 200: examples.holder } },
      }),
    },
    async (request, reply) => {
      const { kind: holderKind, uid, cgroup, limits } = request.body;
      const holder = await run(context, request, {
        kind: 'putHolder',
        machine: request.params.id,
        name: request.params.name,
        holderKind,
        ...defined({ uid, cgroup, limits: limits && limitsOf(limits), ifRevision: ifRevisionOfPut(request) }),
      });
      showRevision(reply, holder);
      return presentHolder(holder);
    },
  );

  app.delete(
    '/v1/machines/:id/holders/:name',
    {
      schema: { params: ByName, response: { 204: z.void() } },
      config: operation({
        id: 'deleteHolder',
        tag: 'machines',
        summary: 'Delete a holder of a machine',
        description:
          'Only when it has no live session and no lease that is pending, active or ending; ports that rest go on resting. Its ' +
          'tokens are revoked. Who had ports in the past can still be asked.',
        answers: { 204: 'It is gone; its name may be used for another.' },
        errors: ['machine_not_found', 'holder_not_found', 'holder_in_use'],
        revision: 'required',
        dryRun: true,
        examples: { answers: {} },
      }),
    },
    async (request, reply) => {
      const { id: machine, name } = request.params;
      await run(context, request, { kind: 'deleteHolder', machine, name, ifRevision: ifRevisionOf(request) });
      return reply.code(204).send();
    },
  );

  app.get(
    '/v1/machines/:id/holders/:name',
    {
      schema: { params: ByName, response: { 200: wire.Holder } },
      config: operation({
        id: 'getHolder',
        tag: 'machines',
        summary: 'Read one holder of a machine',
        description: 'An agent reads those of its own machine only.',
        answers: { 200: 'The holder.' },
        errors: ['machine_not_found', 'holder_not_found'],
        revision: 'shown',
        examples: { answers: { 200: examples.holder } },
      }),
    },
    async (request, reply) => {
      const { id, name } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      await machineOf(context, id);
      const found = await context.reader.holder(id, name);
      if (!found) throw leaseProblem({ code: 'holder_not_found', machine: id, holder: name }, context.clock.nowUs());
      showRevision(reply, found);
      return presentHolder(found);
    },
  );

  app.get(
    '/v1/machines/:id/holders',
    {
      schema: { params: ById, querystring: wire.HolderListQuery, response: { 200: wire.HolderPage } },
      config: operation({
        id: 'listHolders',
        tag: 'machines',
        summary: 'List the holders of a machine',
        answers: { 200: 'One page of holders, by name.' },
        errors: ['machine_not_found'],
        examples: { answers: { 200: examples.pageWith(examples.holder) } },
      }),
    },
    async (request) => {
      const { id } = request.params;
      requireOwn(principalOf(request), { machine: id }, `machine "${id}"`);
      await machineOf(context, id);
      const { limit, cursor, ...filter } = request.query;
      const found = await context.reader.holders(id, defined(filter), pageRequest({ limit, cursor }, 'name'));
      return page(found, presentHolder);
    },
  );
});

/** Limits that limit nothing are none. */
function limitsOf({ ports_min: min, ports_max: max, sessions_max: sessions }: wire.HolderLimits) {
  const sessionsMax = sessions ?? null;
  const portsMin = { tcp: min.tcp ?? 0, udp: min.udp ?? 0, icmp: min.icmp ?? 0 };
  const portsMax = { tcp: max.tcp ?? null, udp: max.udp ?? null, icmp: max.icmp ?? null };
  const isNone = sessionsMax === null && protocols.every((name) => portsMin[name] === 0 && portsMax[name] === null);
  return isNone ? null : { portsMin, portsMax, sessionsMax };
}
