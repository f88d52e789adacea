import type { FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { Command, CommandKind, Output } from '../leases/commands.ts';
import type { Machine } from '../leases/model.ts';
import type { Api, ZodTypeProvider } from './operation.ts';
import type { Context } from './context.ts';
import type { Parts } from './parts.ts';
import { leaseProblem, valueOf } from './problems.ts';
import { provenanceOf } from './provenance.ts';

/** One resource of the API as a plugin: the routes of one file. */
export const resource = (name: string, declare: (app: Api, context: Context) => void) =>
  fp<{ context: Context }>(async (app, { context }) => declare(app.withTypeProvider<ZodTypeProvider>(), context), {
    name: `fishery-${name}`,
    dependencies: ['fishery-problems', 'fishery-operations', 'fishery-auth'],
  });

/**
 * Has the core decide what a request asks for, and answers with its refusal when it refuses. Once per request: a key names
 * the one command that the request comes to.
 */
export async function run<K extends CommandKind>(
  parts: Parts,
  request: FastifyRequest,
  command: Command<K>,
): Promise<Output<K>> {
  const terms = { provenance: provenanceOf(request), dryRun: isDryRun(request) };
  const answer = await parts.leases.execute(command, terms);
  if (answer.replayed) request.isReplay = true;
  return valueOf(answer, parts.clock.nowUs());
}

/** Whether the request only wants to know what would be. Its operation says whether it can be asked so (`dryRun`). */
export const isDryRun = ({ query }: FastifyRequest): boolean => (query as { dry_run?: boolean }).dry_run === true;

/** The machine with this name; the problem `machine_not_found` when there is none. */
export async function machineOf(parts: Parts, id: string): Promise<Machine> {
  const machine = await parts.reader.machine(id);
  if (machine === undefined) throw leaseProblem({ code: 'machine_not_found', machine: id }, parts.clock.nowUs());
  return machine;
}
