import { pino } from 'pino';
import { Agent } from '../../src/agent/agent.ts';
import type { AgentParts } from '../../src/agent/agent-parts.ts';
import type { StateFile } from '../../src/agent/host/state-file.ts';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import type { DesiredMachine } from '../../src/agent/server/desired.ts';
import { FirstGuard } from '../../src/agent/guard/first-guard.ts';
import type { FishLeases } from '../../src/agent/fish/fish-leases.ts';
import type { FishPort } from '../../src/agent/fish/fish-port.ts';
import { GuardKeeper, type FormerGuard } from '../../src/agent/guard/guard-keeper.ts';
import { nothingRecorded } from '../../src/agent/host/host-state.ts';
import { Reports } from '../../src/agent/server/reports.ts';
import type { FisheryError } from '../../src/sdk/index.ts';
import { type Followed } from '../../src/sdk/index.ts';
import type { Applied, Change, Desired, FlowAnswer } from '../../src/wire/agent.ts';
import { desired, instant, withFish, withoutFish } from './agent-values.ts';
import { FakeCgroups } from './fake-cgroups.ts';
import { FakeHost } from './fake-host.ts';
import { FakeKeepers, newPlaceholders } from './fake-keepers.ts';
import { FakeSockets } from './fake-sockets.ts';
import { noOwners } from './no-owners.ts';

type Body = Change extends infer C ? (C extends { revision: number } ? Omit<C, 'revision' | 'at'> : never) : never;

/** An agent on a host in memory, with a server that says what the test wants. */
export class World {
  readonly host = new FakeHost();
  readonly sockets = new FakeSockets();
  readonly applied: Applied[] = [];
  readonly flowAnswers: FlowAnswer[] = [];
  readonly blocks: string[][] = [];
  /** Whether the server answers keepalives. */
  isAnswered = true;
  fences = 0;
  fishNumbers = async (): Promise<Readonly<Record<string, number>>> => ({ flows_live: 7 });
  fence_s = 30;
  fishStarts = 0;
  /** A former agent has left some. */
  hasFlows = false;
  /** How fish was stopped: whether it left its flows. */
  readonly fishLeft: boolean[] = [];
  fishStopped = 0;
  fishFails = false;
  fishDies: ((reason: string) => void) | undefined;
  /** Thrown by the next follow, after what is queued. */
  refusal: FisheryError | undefined;
  ended = 0;
  revision = 10;
  recorded = nothingRecorded;
  readonly #sliced = new Set<Address>();
  /** Of the pools, as a former agent was told. */
  prefixes: readonly Prefix[] = [];
  readonly #events: Followed[] = [];
  #wake: (() => void) | undefined;
  readonly #stopping = new AbortController();
  running: Promise<void> | undefined;
  readonly log = pino({ level: 'silent' });
  readonly keeperHost = new FakeKeepers(this.sockets);
  readonly #kept = newPlaceholders(this.keeperHost, { mark: withFish.mark });
  readonly keepers = this.#kept.keepers;
  readonly placeholders = this.#kept.placeholders;
  readonly guard: GuardKeeper;
  readonly reports = new Reports({
    send: async (applied) => {
      this.applied.push(applied);
      return { revision: this.revision, rejected: [] };
    },
    isHopeless: () => false,
    pause: async () => {},
    log: this.log,
  });
  readonly fishLeases = {
    run: async () => {},
    look: () => {},
    end: async () => {
      this.ended++;
      for (const each of this.agent.desired.leases.values())
        if (each.holder === 'fish') this.change({ kind: 'lease', lease: { ...each, state: 'ending' } });
    },
    status: () => ({ session: null, claims: 0, answered: 0, problem: null, growth: [] }),
    refused: 0,
  } satisfies Pick<FishLeases, 'run' | 'look' | 'end' | 'status' | 'refused'>;
  /** What a former agent was told last. */
  remembered: Desired | undefined;
  readonly noted: string[] = [];
  readonly memory = {
    read: () => this.remembered,
    reset: ({ leases }: DesiredMachine) => void this.noted.push(`all ${[...leases.keys()].join(' ')}`),
    note: ({ kind }: Change) => void this.noted.push(kind),
    noteUp: (leases: readonly string[]) => this.noted.push(...leases.map((each) => `${each} is up`)),
    flush: () => {},
  };
  readonly agent: Agent;

  constructor(hasFish = true, former?: FormerGuard) {
    this.guard = new GuardKeeper(
      {
        send: async () => {
          if (!this.isAnswered) throw new Error('away');
          return { fence_s: this.fence_s };
        },
        open: (ms) => this.host.openGuard(ms),
        now: () => performance.now(),
        shut: () => this.host.shutGuard(),
        steady: () => performance.now(),
        log: this.log,
        onFence: (isFenced) => this.agent.setFenced(isFenced),
      },
      30,
      former,
    );
    const recordedOf = () => this.recorded;
    const prefixesOf = () => this.prefixes;
    const settings = hasFish ? withFish : withoutFish;
    const stateFile: AgentParts['stateFile'] & Pick<StateFile, 'prefixes'> = {
      isBegun: true,
      get recorded() {
        return recordedOf();
      },
      sliced: this.#sliced,
      get prefixes() {
        return prefixesOf();
      },
      noteGuarded: (prefixes, addresses) => {
        this.prefixes = prefixes;
        for (const each of addresses) this.#sliced.add(each);
      },
      record: (part) => {
        this.recorded = {
          sysctls: new Map([...this.recorded.sysctls, ...part.sysctls]),
          written: new Map([...this.recorded.written, ...part.written]),
          addresses: new Set([...this.recorded.addresses, ...part.addresses]),
          tun: part.tun ?? this.recorded.tun,
          tunBefore: part.tunBefore ?? this.recorded.tunBefore,
          rules: new Set([...this.recorded.rules, ...part.rules]),
        };
      },
      forget: (part) => {
        this.recorded = {
          ...this.recorded,
          addresses: new Set([...this.recorded.addresses].filter((each) => !part.addresses.includes(each))),
        };
      },
    };
    this.agent = new Agent({
      machine: 'edge',
      settings,
      host: this.host,
      cgroups: new FakeCgroups(),
      stateFile,
      firstGuard: new FirstGuard({ host: this.host, stateFile, settings, log: this.log }),
      memory: this.memory,
      owners: noOwners,
      server: {
        follow: (signal) => this.#follow(signal),
        answerFlowQuery: async (answer) => void this.flowAnswers.push(answer),
        answerRequest: async () => {},
      },
      guard: this.guard,
      reports: this.reports,
      placeholders: this.placeholders,
      keepers: this.keepers,
      sockets: this.sockets,
      unitsGone: async (units) => new Set(units.filter((unit) => unit === 'gone.service')),
      terminator: null,
      fish: hasFish
        ? {
            starter: { start: () => this.#startFish(), hasFlows: () => this.hasFlows },
            leases: this.fishLeases,
          }
        : null,
      broker: null,
      log: this.log,
      now: () => performance.now(),
    });
  }

  say(event: Followed): void {
    this.#events.push(event);
    this.#wake?.();
  }

  change(body: Body): void {
    this.revision++;
    this.say({ type: 'change', change: { ...body, revision: this.revision, at: instant } });
  }

  start(keep = false): void {
    this.running = this.agent.run(this.#stopping.signal, keep);
    this.running.catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.running?.catch(() => {});
  }

  /** What was reported so far, in order. */
  told(): string[] {
    return this.applied.flatMap(({ leases, slices }) => [
      ...leases.map((each) => `${each.lease} ${each.state}`),
      ...slices.map((each) => `${each.slice} ${each.state}`),
    ]);
  }

  async *#follow(signal: AbortSignal): AsyncGenerator<Followed> {
    while (!signal.aborted) {
      for (const event of this.#events.splice(0)) yield event;
      if (this.refusal) {
        const { refusal } = this;
        this.refusal = undefined;
        throw refusal;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }

  async #startFish(): Promise<FishPort> {
    this.fishStarts++;
    if (this.fishFails) throw new Error('the TUN is busy');
    const { promise: died, resolve } = Promise.withResolvers<string>();
    this.fishDies = resolve;
    return {
      setBlocks: async (blocks) => {
        this.blocks.push(blocks.map((block) => block.lease));
        return [];
      },
      drain: async () => {},
      followLinks: async () => {},
      lostSockets: async () => 0,
      portUse: async () => ({ protocols: [], leases: [] }),
      holder: 'fish',
      flows: async () => ({ flows: [], truncated: false }),
      topTalkers: async () => [],
      busyRemotes: async () => [],
      startTrace: async () => false,
      readTrace: async () => ({ packets: [], isOver: true, endedBy: 'time' as const, wallOffsetMs: 0 }),
      fence: async () => {
        this.fences++;
        this.blocks.push([]);
        return 3;
      },
      answer: async (query) => ({
        id: query.id,
        covers_since: instant,
        covers_through: instant,
        clock_margin_s: 0,
        flows: [],
      }),
      stats: () => this.fishNumbers(),
      stop: async ({ leave = false } = {}) => {
        this.fishStopped++;
        this.fishLeft.push(leave);
      },
      died,
    };
  }
}

export const snapshot = (over: Partial<Desired> = {}): Followed => ({ type: 'snapshot', desired: desired(over) });
