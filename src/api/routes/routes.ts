import { Readable } from 'node:stream';
import { z } from 'zod';
import { steering, type Event, type Machine } from '../../leases/model.ts';
import { hasRoute } from '../../leases/routing.ts';
import { matches } from '../../net/selector.ts';
import { formatInstant } from '../../wire/instants.ts';
import * as wire from '../../wire/routes.ts';
import { preferredOf } from '../accept.ts';
import type { Context } from '../context.ts';
import * as examples from '../examples/routes.ts';
import { streamLog } from '../log-stream.ts';
import { operation } from '../operation.ts';
import { principalOf, notYours, refuseInDoubt } from '../principal.ts';
import { apiProblem } from '../problems.ts';
import { defined } from '../requests.ts';
import { resource } from '../resource.ts';
import { csvFile, jsonFile, nftFile, type RouteFile } from '../route-files.ts';
import { routeOf, takeRoutes, type RouteFilter } from '../route-table.ts';

const mediaTypes = ['application/json', 'text/csv', 'text/plain'] as const;
type MediaType = (typeof mediaTypes)[number];
const typeOf = { json: 'application/json', csv: 'text/csv', nft: 'text/plain' } as const;
const fileOf: Readonly<Record<MediaType, (file: RouteFile) => Iterable<string>>> = {
  'application/json': jsonFile,
  'text/csv': csvFile,
  'text/plain': nftFile,
};
const header = {
  'application/json': '',
  'text/csv': '; charset=utf-8; header=present',
  'text/plain': '; charset=utf-8',
};

export const routeRoutes = resource('routes', (app, context) => {
  app.get(
    '/v1/routes',
    {
      schema: { querystring: wire.RoutesQuery, response: { 200: wire.RouteSnapshot } },
      // It would read the whole table for a line of headers.
      exposeHeadRoute: false,
      config: operation({
        id: 'getRoutes',
        tag: 'routes',
        summary: 'Take a snapshot of all routes: which address and ports belong to which machine',
        description:
          'One consistent state; its revision is in the answer and in the header `fishery-revision`, and the event stream ' +
          'goes on from there. As JSON, as CSV (RFC 4180), or with `format=nft` as a file for `nft -f`: maps from address ' +
          'and port to the mark and the next hop of the machine, and a chain that marks by them.',
        answers: { 200: 'The routes, in the order of their slices.' },
        errors: ['read_only_epoch', 'not_acceptable', 'overloaded'],
        examples: { answers: { 200: examples.routeSnapshot } },
        alternatives: { 'text/csv': examples.routesAsCsv, 'text/plain': examples.routesAsNft },
      }),
    },
    async (request, reply) => {
      const { format, ...filter } = request.query;
      const principal = principalOf(request);
      await knownRouter(context, principal.router);
      await refuseInDoubt(principal, context.epochs);
      const type = format === undefined ? preferredOf(request.headers.accept, mediaTypes) : typeOf[format];
      if (type === undefined)
        throw apiProblem('not_acceptable', `there is ${mediaTypes.join(', ')}, and none of these is accepted`);
      const table = await takeRoutes(context.reader, defined(filter));
      if (table === undefined) throw apiProblem('overloaded', 'routes change faster than they can be read');
      const epoch = context.epochs.current.id;
      const { revision, sliceSizes } = table;
      const file = fileOf[type]({ epoch, revision, sliceSizes, routes: table.routes() });
      void reply.header('fishery-revision', String(revision)).header('vary', 'accept').type(`${type}${header[type]}`);
      // As a stream, so that a large file is made as fast as it is read, and others get their turn. The schema says what
      // it comes to; the compiler knows of objects only.
      return reply.send(Readable.from(inPieces(file)) as never);
    },
  );

  app.get(
    '/v1/routes/watch',
    {
      sse: { kind: 'manual', heartbeat: false },
      exposeHeadRoute: false,
      schema: { querystring: wire.RoutesWatchQuery, response: { 200: z.string() } },
      config: operation({
        id: 'watchRoutes',
        tag: 'routes',
        summary: 'Follow the routes, as server-sent events',
        description:
          '`change`: a route that came, one that was withdrawn, or how a machine is reached now; its id is the revision. ' +
          '`bookmark`: the revision reached, when there was nothing to tell for a while. `compacted`: the log does not ' +
          'reach back to where you are, or other pools match `select` now; take a snapshot; the stream ends. Without ' +
          '`from` the stream begins now. A client that stops reading is cut off, and goes on from its last id.',
        answers: { 200: 'The stream. It ends when the server stops or the token is revoked.' },
        errors: ['read_only_epoch', 'not_acceptable', 'too_many_watchers'],
        examples: { answers: { 200: examples.routeStream } },
        produces: 'text/event-stream',
      }),
    },
    async (request, reply) => {
      const { from, ...filter } = request.query;
      await streamLog(context, request, reply, async () => {
        await knownRouter(context, principalOf(request).router);
        const changes = new RouteChanges(context, defined(filter));
        return { interest: steering, from, present: (event) => changes.of(event) };
      });
    },
  );
});

/** A token may outlive its router. */
async function knownRouter({ reader }: Context, id: string | null): Promise<void> {
  if (id !== null && (await reader.router(id)) === undefined) throw notYours(`router "${id}", which there is not,`);
}

const chars_per_piece = 64 * 1024;

function* inPieces(texts: Iterable<string>): Generator<string, void, undefined> {
  let piece = '';
  for (const text of texts) {
    piece += text;
    if (piece.length < chars_per_piece) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

/** What one follower of the routes gets to see of the log. */
class RouteChanges {
  readonly #context: Context;
  readonly #filter: RouteFilter;
  /** How machines are reached, as the follower knows it. */
  readonly #machines = new Map<string, Machine | undefined>();
  readonly #selected = new Map<string, boolean>();

  constructor(context: Context, filter: RouteFilter) {
    this.#context = context;
    this.#filter = filter;
  }

  async of(event: Exclude<Event, { kind: 'epoch' }>): Promise<wire.RouteChange | 'compacted' | undefined> {
    if (event.kind === 'slice') return this.#ofSlice(event);
    if (event.kind === 'machine') return this.#ofMachine(event);
    // Which of its routes are meant has perhaps changed; what came before is not in the log in front of us.
    const { pool, select } = this.#filter;
    const isChange = event.kind === 'pool' && event.pool.updatedAt !== event.pool.createdAt;
    return isChange && select !== undefined && (pool ?? event.pool.id) === event.pool.id ? 'compacted' : undefined;
  }

  async #ofSlice(event: Extract<Event, { kind: 'slice' }>): Promise<wire.RouteChange | undefined> {
    const { slice, revision, machine } = event;
    // Only where the route came or went; what else becomes of a slice is nothing to whoever steers.
    if (slice.routeRevision !== revision) return undefined;
    const { pool } = this.#filter;
    const owner = slice.machine ?? machine;
    if (pool !== undefined && pool !== slice.pool) return undefined;
    const isElsewhere = this.#filter.machine !== undefined && this.#filter.machine !== owner;
    // It may have been on the machine that is asked about; a slice that is new was on none.
    if (isElsewhere && (!hasRoute(slice) || slice.generation === 1)) return undefined;
    if (!(await this.#isSelected(slice.pool))) return undefined;
    const head = { revision, at: formatInstant(event.at) };
    if (hasRoute(slice) && !isElsewhere)
      return { kind: 'route', ...head, route: routeOf(slice, await this.#machineOf(slice.machine ?? '')) };
    return {
      ...{ kind: 'withdrawn', ...head, slice: `slice-${slice.id}` },
      ...{ pool: slice.pool, address: slice.address, ports: slice.ports },
    };
  }

  #ofMachine({ revision, at, subject }: Extract<Event, { kind: 'machine' }>): wire.RouteChange | undefined {
    const { id, mark, nextHops } = subject;
    const known = this.#machines.get(id);
    this.#machines.set(id, subject);
    if (this.#filter.machine !== undefined && this.#filter.machine !== id) return undefined;
    if (known?.mark === mark && known.nextHops.join() === nextHops.join()) return undefined;
    return { kind: 'machine', revision, at: formatInstant(at), machine: id, mark, next_hops: [...nextHops] };
  }

  /** As it is now; where that is ahead of the log as it was followed, its change is still to come, and says the same. */
  async #machineOf(id: string): Promise<Machine | undefined> {
    if (!this.#machines.has(id)) this.#machines.set(id, await this.#context.reader.machine(id));
    return this.#machines.get(id);
  }

  async #isSelected(id: string): Promise<boolean> {
    const { select } = this.#filter;
    if (select === undefined) return true;
    const known = this.#selected.get(id);
    if (known !== undefined) return known;
    const pool = await this.#context.reader.pool(id);
    const isSelected = matches(select, pool?.labels ?? {});
    this.#selected.set(id, isSelected);
    return isSelected;
  }
}
