import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DesiredMachine } from '../../src/agent/server/desired.ts';
import { Broker, type BrokerParts } from '../../src/broker/broker.ts';
import type { Told } from '../../src/broker/upstream.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import type { DesiredPool } from '../../src/wire/agent.ts';
import type { GrantedReportInput } from '../../src/wire/broker.ts';
import type { Holder } from '../../src/wire/machines.ts';
import type { Revocation } from '../../src/wire/revocations.ts';
import type { Slice } from '../../src/wire/slices.ts';
import { desiredPool, holder, slice } from './agent-values.ts';

/** Who this process is to the broker: root is its operator, anybody else the holder `web`. */
export const ownUid = process.geteuid?.() ?? 0;

/** A slice that the server handed to the machine, to grant in by itself. */
export const ownSlice = (number: number, over: Partial<Slice> = {}): Slice =>
  slice(number, { allocator: 'machine', state: 'assigning', ...over });

/** The word of a server, which a test changes. */
export type Word = {
  machine: string;
  state: string;
  fence_s: number;
  pools: DesiredPool[];
  holders: Holder[];
  slices: Slice[];
  revocations: Revocation[];
};

/** A broker on a socket of its own, with the word of a server that there is not. */
export class BrokerWorld implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'fishery-broker-'));
  readonly socket = join(this.directory, 'broker.sock');
  readonly word: Word = {
    machine: 'edge',
    state: 'active',
    fence_s: 30,
    pools: [{ ...desiredPool('pool', ['198.51.100.0/24']), cooldown_s: { tcp: 0, udp: 0, icmp: 0 } }],
    holders: [holder('web', ownUid === 0 ? 2_001 : ownUid), holder('mail', 2_002)],
    slices: [ownSlice(1)],
    revocations: [],
  };
  readonly reports: GrantedReportInput[] = [];
  /** What the server says to a report; a test puts another in its place. */
  tell: (report: GrantedReportInput) => Promise<Told> = async ({ broker_epoch, through }) => ({
    ok: true,
    answer: { broker_epoch, through, page: 0, rejected: [] },
  });
  cutOff: string | undefined;
  /** The server's clock, as the agent knows it. */
  serverNowUs: () => number | undefined = () => Date.now() * 1_000;
  /** How often a broker said that its table is lost. */
  losses = 0;
  #broker: Broker | undefined;

  get broker(): Broker {
    if (!this.#broker) throw new Error('no broker was started');
    return this.#broker;
  }

  get table(): string {
    return join(this.directory, 'table');
  }

  static async open(change: (word: Word) => void = () => {}): Promise<BrokerWorld> {
    const world = new BrokerWorld();
    change(world.word);
    await world.start();
    return world;
  }

  async start(over: Partial<BrokerParts> = {}): Promise<Broker> {
    const started = await Broker.start({
      ...{ machine: this.word.machine, directory: this.table, socket: this.socket, version: '0.0.0' },
      log: createLogger({ level: 'silent' }),
      cutOff: () => this.cutOff,
      serverNowUs: () => this.serverNowUs(),
      holders: () => this.word.holders,
      cgroupOf: () => undefined,
      onTold: () => {},
      onLost: () => {
        this.losses++;
      },
      startEngine: openEngine,
      send: async (report) => {
        this.reports.push(report);
        return this.tell(report);
      },
      doze: async (ms, signal) => {
        await sleep(ms, undefined, { signal }).catch(() => {});
      },
      ...over,
    });
    if (!started.ok) throw new Error(started.error);
    this.#broker = started.value;
    return started.value;
  }

  async stop(): Promise<void> {
    await this.#broker?.close();
    this.#broker = undefined;
  }

  /** The server says how things are; whether all of it is in the table. */
  mirror(): Promise<boolean> {
    return this.broker.mirror(this.word);
  }

  /** The slice comes, the agent makes it its own, and the server has heard of it. */
  async ready(number = 1, over: Partial<Slice> = {}): Promise<void> {
    for (const state of ['assigning', 'assigned'] as const) {
      this.put(ownSlice(number, { ...over, state }));
      if (!(await this.mirror())) throw new Error('not mirrored');
    }
    await this.confirmed();
  }

  /** The server has heard of the table: it grants. */
  async confirmed(): Promise<void> {
    await until(() => this.broker.status().told_through !== null);
  }

  /** In the place of the one with its number. */
  put(next: Slice): void {
    this.word.slices = [...this.word.slices.filter(({ id }) => id !== next.id), next];
  }

  client(): FisheryClient {
    return new FisheryClient({ url: `unix:${this.socket}`, attemptsMax: 1 });
  }

  /** Everything is made true at once, as an agent would. */
  async obey(): Promise<void> {
    const desired = new DesiredMachine(this.word.machine);
    await this.broker.follow((granted) => {
      const touched = granted.type === 'snapshot' ? desired.reset(granted.desired) : desired.apply(granted.change);
      for (const id of touched.leases) {
        const { token, state } = desired.leases.get(id) ?? {};
        const word = state === 'pending' ? 'active' : state === 'ending' ? 'empty' : undefined;
        if (word === undefined || token === undefined) continue;
        void this.broker.applied({ revision: 0, leases: [{ lease: id, token, state: word }], slices: [] });
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    if (existsSync(this.directory)) rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Polls until it is so. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(10);
}
