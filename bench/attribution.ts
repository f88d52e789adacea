/**
 * What a long past costs: the same questions, and the same grants, with many leases over and with a thousand, in turn.
 * One line of JSON for each figure. `--directory` keeps the two databases there for the next run.
 *
 *   node bench/attribution.ts --leases 50000000 --directory /var/tmp/past
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openSqliteStore } from '../src/db/sqlite/open.ts';
import type { Command, CommandKind, Output } from '../src/leases/commands.ts';
import { LeaseService } from '../src/leases/lease-service.ts';
import { limits } from '../src/leases/limits.ts';
import type { Slice } from '../src/leases/model.ts';
import type { Store } from '../src/leases/store.ts';
import { parsePrefix } from '../src/net/prefix.ts';
import { SteadyClock } from '../src/ops/clock.ts';
import { figureOf, inTurn, ratioFigure, rounded, type Figure } from './figures.ts';
import { onePort } from './in-process.ts';
import { writePast } from './past.ts';
import { Scratch } from './world.ts';

const { values: flags } = parseArgs({
  options: { leases: { type: 'string', default: '50000000' }, directory: { type: 'string' } },
});
const leases_behind = Number(flags.leases);
const leases_few = 1_000;
const rounds = 7;
const lookups_per_round = 500;
const pages_per_round = 40;
/** As many as a holder has in the small past too, from most instants on: the pages of both sides are alike. */
const page_items = 10;
const grants_per_round = 2_000;
const grants_at_once = 256;
const prune_steps = 40;
const machines = 10;
const slices_per_machine = 32;
const holders = ['fish', 'proxy', 'mail', 'web'];
const day_us = 86_400_000_000;
const kept_us = 90 * day_us;

/** A server's core on one of the two databases. */
class Side implements AsyncDisposable {
  readonly store: Store;
  readonly slices: readonly Slice[];
  readonly #service: LeaseService;
  readonly #sessions: readonly number[];
  #random = 42;

  private constructor(store: Store, service: LeaseService, slices: readonly Slice[], sessions: readonly number[]) {
    this.store = store;
    this.slices = slices;
    this.#service = service;
    this.#sessions = sessions;
  }

  static async open(directory: string, leases: number): Promise<Side> {
    if (!existsSync(join(directory, 'fishery.db'))) {
      mkdirSync(directory, { recursive: true });
      await using furnished = await Side.#start(directory);
      await furnished.#furnish();
      await furnished[Symbol.asyncDispose]();
      const until = Date.now() * 1_000 - day_us / 24;
      const past = { leases, since: until - kept_us, until, holders };
      writePast(directory, past, (line) => console.error(line));
    }
    const side = await Side.#start(directory);
    const { items: slices } = await side.store.reader.slices({}, { limit: 1_000, cursor: null });
    const sessions: number[] = [];
    for (let machine = 0; machine < machines; machine++) {
      const open = { kind: 'openSession', scope: {}, machine: `edge-${machine}`, holder: 'proxy' } as const;
      sessions.push((await side.#execute({ ...open, ttlUs: day_us })).id);
    }
    return new Side(side.store, side.#service, slices, sessions);
  }

  static async #start(directory: string): Promise<Side> {
    const store = await openSqliteStore({ directory, newEpoch: () => 'bench', nowUs: () => 0 });
    return new Side(store, new LeaseService({ store, clock: new SteadyClock() }), [], []);
  }

  async #furnish(): Promise<void> {
    const prefix = parsePrefix('100.64.0.0/24');
    if (!prefix.ok) throw new Error(prefix.error);
    await this.#execute({
      ...{ kind: 'createPool', id: 'bench', labels: {}, prefixes: [prefix.value], slicePorts: 2_048 },
      ...{ sharedBlockPorts: 64, usablePorts: { first: 0, last: 65_535 }, cooldownUs: { tcp: 0, udp: 0, icmp: 0 } },
    });
    for (let n = 0; n < machines; n++) {
      const machine = `edge-${n}`;
      await this.#execute({ kind: 'createMachine', id: machine, labels: {}, enforcement: 'none', fenceUs: 30_000_000 });
      for (const name of holders)
        await this.#execute({ kind: 'putHolder', machine, name, holderKind: 'proxy', uid: null });
      const assign = { kind: 'assignSlices', machine, pool: 'bench', family: null, at: null } as const;
      await this.#execute({ ...assign, count: slices_per_machine });
    }
  }

  async #execute<K extends CommandKind>(command: Command<K>): Promise<Output<K>> {
    const result = await this.#service.execute(command);
    if (!result.ok) throw new Error(`${command.kind} was refused: ${JSON.stringify(result.error)}`);
    return result.value;
  }

  /** The same sequence on both sides. */
  #pick(below: number): number {
    this.#random = (this.#random * 1_103_515_245 + 12_345) % 2 ** 31;
    return this.#random % below;
  }

  #somewhere(): Readonly<{ slice: Slice; port: number; at: number }> {
    const slice = this.slices[this.#pick(this.slices.length)];
    if (!slice) throw new Error('there are no slices');
    const at = Date.now() * 1_000 - Math.floor((this.#pick(1_000_000) / 1_000_000) * kept_us);
    return { slice, port: slice.ports.first + this.#pick(2_048), at };
  }

  /** Microseconds for one question about one port at one instant, anywhere in the past. */
  async lookUp(): Promise<number> {
    const questions = Array.from({ length: lookups_per_round }, () => this.#somewhere());
    const began = performance.now();
    for (const { slice, port, at } of questions)
      await this.store.reader.whoHad({ address: slice.address, protocol: 'tcp', port, at });
    return ((performance.now() - began) * 1_000) / questions.length;
  }

  /** Microseconds for a page of what a holder had from some instant on. */
  async holderPage(): Promise<number> {
    const began = performance.now();
    for (let page = 0; page < pages_per_round; page++) {
      const { slice, at } = this.#somewhere();
      const of = { machine: slice.machine ?? '', holder: holders[this.#pick(holders.length)] ?? '' };
      const time = { since: at, until: Date.now() * 1_000 };
      await this.store.reader.uses({ ...of, ...time }, { limit: page_items, cursor: null });
    }
    return ((performance.now() - began) * 1_000) / pages_per_round;
  }

  /** Microseconds for a durable grant, many at a time, and its release. */
  async grantAndRelease(): Promise<number> {
    let left = grants_per_round;
    const worker = async () => {
      while (left-- > 0) {
        const session = this.#sessions[left % this.#sessions.length] ?? 0;
        const [lease] = await this.#execute({ kind: 'grantLeases', scope: {}, session, claims: [onePort] });
        if (!lease) throw new Error('one was asked for');
        await this.#execute({ kind: 'revokeLease', id: lease.id, deadlineUs: null, forced: false, reason: 'bench' });
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: grants_at_once }, worker));
    const tookUs = (performance.now() - began) * 1_000;
    while ((await this.#execute({ kind: 'sweep', itemsMax: 250 })).more);
    return tookUs / grants_per_round;
  }

  /** Milliseconds of each step of the retention: how long it keeps everybody else waiting. */
  async prune(): Promise<readonly number[]> {
    const steps: number[] = [];
    for (let step = 0; step < prune_steps; step++) {
      const began = performance.now();
      await this.store.prune({ now: Date.now() * 1_000, keptUs: kept_us - day_us, rowsMax: limits.pruned_rows_max });
      steps.push(performance.now() - began);
    }
    return steps;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#service.close();
    await this.store.close();
  }
}

function print({ value, peer, range: [low, high], ...rest }: Figure): void {
  const beside = peer && { ...peer, value: rounded(peer.value) };
  console.log(JSON.stringify({ ...rest, value: rounded(value), peer: beside, range: [rounded(low), rounded(high)] }));
}

using scratch = new Scratch();
const directory = flags.directory ?? scratch.path;
await using many = await Side.open(join(directory, 'many'), leases_behind);
await using few = await Side.open(join(directory, 'few'), leases_few);
const peer = { name: `with ${leases_few} leases over`, unit: 'µs' };
const compare = (measure: (side: Side) => Promise<number>) =>
  inTurn(rounds, { subject: () => measure(many), peer: () => measure(few) });

for (const side of [many, few]) {
  await side.lookUp();
  await side.grantAndRelease();
}
print(ratioFigure('attribution.lookup', await compare((side) => side.lookUp()), peer));
print(ratioFigure('attribution.history', await compare((side) => side.holderPage()), peer));
print(ratioFigure('attribution.grant', await compare((side) => side.grantAndRelease()), peer));
print(figureOf('attribution.prune_step', 'ms', await many.prune()));
const bytes = statSync(join(directory, 'many', 'fishery.db')).size / leases_behind;
print(figureOf('attribution.size', 'bytes/lease', [bytes]));
