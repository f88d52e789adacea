import type { FlowAnswer as FlowLogAnswer } from '../fish/log/flow-log.ts';
import type { FlowQuery as FlowLogQuery } from '../fish/flows/flow-tuple.ts';
import type { ConnectionAnswer } from '../terminate/connection-log.ts';
import type {
  BusyDestination,
  ConnectionFilter,
  ConnectionList,
  ConnectionTalker,
  ConnectionTalkerKind,
} from '../terminate/connection-views.ts';
import type { DestinationFilter, DestinationList, DestinationOrder } from '../terminate/destinations.ts';
import type { TerminateStats, UsableLease } from '../terminate/protocol.ts';
import type { TerminatorClient } from '../terminate/client.ts';
import type { PortUse } from '../fish/ports/port-use.ts';
import { portCount } from '../net/ports.ts';
import type { Logger } from '../ops/logger.ts';
import type { Result } from '../net/result.ts';
import { formatInstant } from '../wire/instants.ts';
import type { FlowAnswer, FlowQuery } from '../wire/agent.ts';
import { askOnceCovered } from './fish/flow-questions.ts';
import { flowAnswerOf, flowQueryOf, flows_max } from './fish/flow-answers.ts';
import type { TerminatedFlows } from './flow-log/terminated-flows.ts';
import type { LeaseSource } from './leases/lease-source.ts';
import type { ClaimsStatus, FishLeases } from './fish/fish-leases.ts';
import { terminateSettingsOf, type TerminateSettingsFile } from './settings/settings-terminate.ts';

const retry_first_ms = 500;
const retry_max_ms = 10_000;
const destinationsShown_max = 20;

/** The terminator's end that the agent holds. */
export type TerminatorLink = Pick<TerminatorClient, 'hello' | 'gone' | 'ask' | 'close'>;

export type TerminatorParts = Readonly<{
  settings: TerminateSettingsFile;
  leases: Pick<FishLeases, 'run' | 'look' | 'end' | 'status' | 'refused'>;
  /** The terminator that is at work, or one that is started now. The error is one line for people. */
  begin(): Promise<Result<TerminatorLink, string>>;
  /** Whether this lease is up on this host. */
  isUp(lease: string): boolean;
  flows: Pick<TerminatedFlows, 'follow' | 'ended' | 'leave' | 'complete' | 'stats' | 'problem'>;
  log: Pick<Logger, 'info' | 'warn'>;
  now(): number;
}>;

export type TerminatorStatus = ClaimsStatus &
  Readonly<{
    running: boolean;
    starts: number;
    pid: number | null;
    uid: number | null;
    refused: number;
    stats: TerminateStats | null;
    /** What of its flow log is on disk. */
    flow_log: Readonly<Record<string, number>>;
  }>;

/** What people ask about the connections that there are. */
export type TerminatorViews = Readonly<{
  holder: string;
  connections(filter: ConnectionFilter, max: number): Promise<ConnectionList>;
  talkers(by: ConnectionTalkerKind, max: number): Promise<readonly ConnectionTalker[]>;
  busiest(max: number): Promise<readonly BusyDestination[]>;
  destinations(by: DestinationOrder, filter: DestinationFilter, max: number): Promise<DestinationList>;
}>;

/**
 * The terminator as the agent looks after it: that one is at work, as the user that the server knows its holder by, with the leases that
 * are up. It is a process of its own, and the agent comes and goes without it.
 */
export class TerminatorOnHost {
  readonly leases: TerminatorParts['leases'];
  readonly #parts: TerminatorParts;
  #client: TerminatorLink | undefined;
  #isBeginning = false;
  #isTelling = false;
  #hasEnded = false;
  #starts = 0;
  #failures = 0;
  #retryAt = -Infinity;
  /** What it was told last, as text; undefined for nothing yet. */
  #told: string | undefined;
  #problem: string | null = null;
  /** Leases for nothing new, as it is to be, and as it was told last. */
  #draining: ReadonlySet<string> = new Set();
  #toldDraining: ReadonlySet<string> = new Set();
  /** Ports of each family in the leases that it was told. */
  #ports = { 4: 0, 6: 0 };
  #kick: (() => void) | undefined;
  #isFenced = false;

  constructor(parts: TerminatorParts) {
    this.#parts = parts;
    this.leases = parts.leases;
  }

  get holder(): string {
    return this.#parts.settings.holder;
  }

  /** When there may be something to do though nobody says so; undefined for never. */
  nextLookInMs(): number | undefined {
    if (this.#client || this.#isBeginning || this.#hasEnded) return undefined;
    return Math.max(0, this.#retryAt - this.#parts.now());
  }

  /**
   * One look: begins one if there is none, and tells it what it does not know. `kick` is called when there is something to do later. Never
   * throws: what is wrong is in the status, and no reason to stop anything else.
   */
  look(desired: LeaseSource, kick: () => void): void {
    if (this.#hasEnded) return;
    this.#kick = kick;
    const uid = this.#uidOf(desired);
    if (typeof uid === 'string') {
      if (uid !== this.#problem) this.#parts.log.warn(uid);
      this.#problem = uid;
      return;
    }
    if (!this.#client) {
      // It takes as long as a process takes to start: nobody waits for it.
      void this.#begin(kick);
      return;
    }
    // One that hangs must not keep anything else waiting.
    if (this.#isTelling) return;
    this.#isTelling = true;
    void this.#tell(this.#client, uid, desired).then((hasTold) => {
      this.#isTelling = false;
      // What came meanwhile is told with the next look.
      if (hasTold) kick();
    });
  }

  /** null while nobody is there to tell. */
  async portUse(): Promise<PortUse | null> {
    const client = this.#client;
    if (!client || this.#told === undefined) return null;
    const use = await client.ask('portUse', null).catch(() => null);
    return (
      use && {
        leases: use.leases.map(({ lease, flows }) => ({ lease, flows, draining: this.#toldDraining.has(lease) })),
        protocols: use.families.map((each) => ({
          ...{ ...each, protocol: 'tcp' as const, ports: this.#ports[each.family], portsDraining: 0 },
        })),
      }
    );
  }

  /** No new connection gets a port of these any more, and of no others. */
  drain(leases: readonly string[]): void {
    this.#draining = new Set(leases);
    this.#kick?.();
  }

  /** Past the horizon, or heard of by the server again: no new connections, and an end to the others. */
  setFenced(isFenced: boolean): void {
    this.#isFenced = isFenced;
    if (isFenced) void this.#fence();
  }

  async #fence(): Promise<void> {
    const { log } = this.#parts;
    try {
      const connections = await this.#client?.ask('fence', null);
      if (connections !== undefined)
        log.warn(
          { connections },
          "past the horizon: the terminator's connections have ended, and it begins no new ones",
        );
    } catch (error) {
      // The guard in the kernel has shut, whatever becomes of them.
      log.warn(`past the horizon, and the terminator does not answer: ${String(error)}`);
    }
    this.#told = undefined;
  }

  async answer(query: FlowQuery): Promise<FlowAnswer> {
    const unknown = { id: query.id, covers_since: null, covers_through: null, clock_margin_s: 0, flows: [] };
    // Nothing else is terminated: of the rest it is known that there was nothing.
    if (query.protocol !== 'tcp') return this.#atWork() ? { ...unknown, ...everything } : unknown;
    const asked = flowQueryOf(query);
    const answer = await askOnceCovered(
      async () => this.#parts.flows.complete(asked, await this.#inMemory(asked), flows_max),
      asked.at,
    );
    return flowAnswerOf(query, answer, this.holder);
  }

  /** Of the terminator that is at work; null where none is, or it is just ending. */
  async #inMemory(query: FlowLogQuery): Promise<FlowLogAnswer | null> {
    const client = this.#atWork();
    const answer = await client?.ask('search', { query, max: flows_max }).catch(() => null);
    return answer ? logAnswerOf(query, answer) : null;
  }

  /** Of what it has now; undefined while none is at work. */
  get views(): TerminatorViews | undefined {
    const client = this.#atWork();
    return (
      client && {
        holder: this.holder,
        connections: (filter, max) => client.ask('connections', { filter, max }),
        talkers: (by, max) => client.ask('talkers', { by, max }),
        busiest: (max) => client.ask('busiest', { max }),
        destinations: (by, filter, max) => client.ask('destinations', { by, filter, max }),
      }
    );
  }

  /** One that has begun, whether by this agent or by a former one. */
  #atWork(): TerminatorLink | undefined {
    const client = this.#client;
    return client && (this.#told !== undefined || client.hello.log !== null) ? client : undefined;
  }

  async status(): Promise<TerminatorStatus> {
    const { leases } = this.#parts;
    const { session, claims, answered, problem, growth } = leases.status();
    const client = this.#client;
    const isTold = this.#told !== undefined;
    const stats =
      client && isTold ? await client.ask('stats', { destinations: destinationsShown_max }).catch(() => null) : null;
    return {
      running: client !== undefined && isTold,
      starts: this.#starts,
      pid: client?.hello.pid ?? null,
      uid: client?.hello.uid ?? null,
      ...{ session, claims, answered, refused: leases.refused },
      problem: this.#problem ?? problem ?? this.#parts.flows.problem,
      growth,
      stats,
      flow_log: this.#parts.flows.stats(),
    };
  }

  /** With `leave` it goes on alone; otherwise every connection of it is reset, and it ends. */
  async stop(o: Readonly<{ leave: boolean }>): Promise<void> {
    this.#hasEnded = true;
    const { flows } = this.#parts;
    const client = this.#client;
    this.#client = undefined;
    if (client && !o.leave) {
      // One that does not answer is left behind; it has no leases that count any more.
      await client.ask('stop', null).catch(() => client.close());
      await client.gone;
      await flows.ended();
    }
    await flows.leave();
    client?.close();
  }

  #uidOf(desired: LeaseSource): number | string {
    const name = this.holder;
    const holder = desired.holders.get(name);
    const remedy = `have it made by \`fishery holders put MACHINE ${name} --kind terminator --uid UID\`, with the user id that the terminator is to have`;
    if (!holder) return `the server knows no holder ${name} on this machine: ${remedy}`;
    if (holder.kind !== 'terminator') return `holder ${name} is a ${holder.kind}: ${remedy}`;
    if (holder.uid === null || holder.uid === 0)
      return `holder ${name} is not known by a user id other than root's, which is how the guard tells its sockets: ${remedy}`;
    return holder.uid;
  }

  async #begin(kick: () => void): Promise<void> {
    const { begin, now } = this.#parts;
    if (this.#isBeginning || this.#hasEnded || now() < this.#retryAt) return;
    this.#isBeginning = true;
    this.#starts++;
    const begun = await begin();
    this.#isBeginning = false;
    if (!begun.ok) this.#failed(begun.error);
    else this.#use(begun.value, kick);
    kick();
  }

  #use(client: TerminatorLink, kick: () => void): void {
    if (this.#hasEnded) {
      client.close();
      return;
    }
    this.#client = client;
    const { log, flows } = this.#parts;
    log.info({ pid: client.hello.pid }, 'the terminator is at work');
    // It may have connections from when another agent was here.
    if (client.hello.log !== null) void flows.follow(client.hello.log);
    void client.gone.then(() => {
      if (!this.#hasEnded) void flows.ended();
      if (this.#client !== client) return;
      this.#failed('the terminator is gone, and its connections with it');
      kick();
    });
  }

  /** Tells it everything, if anything of it is new; whether there was. */
  async #tell(client: TerminatorLink, uid: number, desired: LeaseSource): Promise<boolean> {
    const { settings, isUp } = this.#parts;
    const draining = this.#draining;
    const leases = [...desired.leases.values()]
      .filter((lease) => lease.holder === this.holder && lease.protocol === 'tcp' && lease.state !== 'ending')
      .filter((lease) => !this.#isFenced && isUp(lease.id) && !draining.has(lease.id))
      // It is up, whether the server has heard that or not.
      .map(({ id, protocol, address, ports, binding }) => ({
        id,
        protocol,
        address,
        ports,
        binding,
        state: 'active' as const,
      }));
    const ask = { uid, settings: terminateSettingsOf(settings), leases };
    const text = JSON.stringify(ask);
    if (text === this.#told) {
      this.#toldDraining = draining;
      return false;
    }
    const wasOther = client.hello.uid !== null && client.hello.uid !== uid;
    const isElsewhere = client.hello.port !== settings.port;
    try {
      // What it is for good is not what it should be: another one has to take its place.
      if (wasOther || isElsewhere) {
        await client.ask('stop', null);
        this.#failed(
          `the terminator is at work as user ${client.hello.uid} on port ${client.hello.port}: it is replaced`,
        );
        return true;
      }
      const { log } = await client.ask('configure', ask);
      void this.#parts.flows.follow(log);
      this.#told = text;
      this.#toldDraining = draining;
      this.#ports = portsOf(leases);
      this.#problem = null;
      this.#failures = 0;
    } catch (error) {
      client.close();
      this.#failed(error instanceof Error ? error.message : String(error));
    }
    return true;
  }

  #failed(problem: string): void {
    const { log, now } = this.#parts;
    this.#client = undefined;
    this.#told = undefined;
    this.#problem = problem;
    log.warn(problem);
    this.#retryAt = now() + Math.min(retry_first_ms * 2 ** Math.min(this.#failures++, 10), retry_max_ms);
  }
}

function portsOf(leases: readonly UsableLease[]): { 4: number; 6: number } {
  const ports = { 4: 0, 6: 0 };
  for (const lease of leases) ports[lease.address.includes(':') ? 6 : 4] += portCount(lease.ports);
  return ports;
}

/** Of questions that cannot be about a connection of its: it knows the answer, whenever that was. */
const everything = { covers_since: formatInstant(0), covers_through: formatInstant(8_640_000_000_000_000) };

/** What the terminator has in memory, as a flow log says it. */
function logAnswerOf({ at }: FlowLogQuery, answer: ConnectionAnswer): FlowLogAnswer {
  const { matches, coversSince, coversThrough, marginUs } = answer;
  const isCovered = coversSince <= at - marginUs && at + marginUs <= coversThrough;
  return { ...answer, verdict: matches.length > 0 ? 'match' : isCovered ? 'not_mine' : 'not_covered' };
}
