import { pino } from 'pino';
import { Keepers, type KeeperPort } from '../../src/agent/placeholders/keepers.ts';
import { Placeholders } from '../../src/agent/placeholders/placeholders.ts';
import { KeeperLostError, type KeptDescriptor, type KeptRecord } from '../../src/keeper/client.ts';
import { kindCount, kinds, type KeeperStatus, type Kind } from '../../src/keeper/protocol.ts';
import { err, ok } from '../../src/net/result.ts';
import type { FakeSockets } from './fake-sockets.ts';

const EPIPE = 32;

/** A keeper in memory: descriptors are those of `FakeSockets`, which it has copies of until it dies. */
export class FakeKeeper {
  readonly pid: number;
  isDead = false;
  /** It answers nothing, and its connections are as they were. */
  hangs = false;
  /** Connections are cut, and what is kept stays. */
  readonly clients = new Set<FakeKeeperClient>();
  readonly kept = Array.from({ length: kindCount }, () => new Map<number, KeptDescriptor>());
  readonly sockets: FakeSockets;
  readonly descriptors_max: number;
  puts = 0;

  constructor(pid: number, sockets: FakeSockets, descriptors_max: number) {
    this.pid = pid;
    this.sockets = sockets;
    this.descriptors_max = descriptors_max;
  }

  get count(): number {
    return this.kept.reduce((sum, { size }) => sum + size, 0);
  }

  die(): void {
    this.isDead = true;
    for (const each of this.kept) {
      for (const { fd } of each.values()) this.sockets.open.closeFd(fd);
      each.clear();
    }
    this.cut();
  }

  cut(): void {
    for (const client of this.clients) client.problem ??= `keeper ${this.pid} is lost`;
    this.clients.clear();
  }

  remove(kind: Kind, slot: number): void {
    const found = this.kept[kind]?.get(slot);
    if (!found) return;
    this.kept[kind]?.delete(slot);
    this.sockets.open.closeFd(found.fd);
  }
}

export class FakeKeeperClient implements KeeperPort {
  readonly hello: KeeperStatus;
  readonly identity: string | null;
  problem: string | undefined;
  readonly #keeper: FakeKeeper;

  constructor(keeper: FakeKeeper, isTold = true) {
    this.#keeper = keeper;
    keeper.clients.add(this);
    this.hello = this.stats();
    this.identity = isTold ? String(keeper.pid) : null;
  }

  put(kind: Kind, slot: number, record: Uint8Array, fd: number): number {
    if (this.problem !== undefined) return -EPIPE;
    this.#keeper.remove(kind, slot);
    this.#keeper.kept[kind]?.set(slot, { slot, record, fd: this.#keeper.sockets.duplicate(fd) });
    this.#keeper.puts++;
    if (this.#keeper.count > this.#keeper.descriptors_max) throw new Error('more than it has room for was put');
    return 0;
  }

  putMany(kind: Kind, all: readonly KeptDescriptor[]): number {
    return all.map(({ slot, record, fd }) => this.put(kind, slot, record, fd)).find((sent) => sent < 0) ?? 0;
  }

  drop(kind: Kind, slots: readonly number[]): number {
    if (this.problem !== undefined) return -EPIPE;
    for (const slot of slots) this.#keeper.remove(kind, slot);
    return 0;
  }

  *list(kind: Kind): Generator<KeptRecord, void, void> {
    this.#insist();
    for (const { slot, record } of [...(this.#keeper.kept[kind]?.values() ?? [])]) yield { slot, record };
  }

  *take(kind: Kind): Generator<KeptDescriptor, void, void> {
    this.#insist();
    for (const each of [...(this.#keeper.kept[kind]?.values() ?? [])])
      yield { ...each, fd: this.#keeper.sockets.duplicate(each.fd) };
  }

  takeOne(kind: Kind, slot: number): KeptDescriptor | undefined {
    this.#insist();
    const found = this.#keeper.kept[kind]?.get(slot);
    return found && { ...found, fd: this.#keeper.sockets.duplicate(found.fd) };
  }

  stats(): KeeperStatus {
    this.#insist();
    const { pid, descriptors_max, kept, clients, puts } = this.#keeper;
    return {
      ...({ version: 1, implementation: 'native', slots_max: descriptors_max, drops: 0 } as const),
      ...{ pid, descriptors_max, connections: clients.size, kept: kept.map(({ size }) => size), puts },
    };
  }

  isAlive(): boolean {
    return this.problem === undefined;
  }

  end(): void {
    if (this.problem === undefined) this.#keeper.die();
  }

  close(): void {
    this.problem ??= 'it was closed here';
    this.#keeper.clients.delete(this);
  }

  #insist(): void {
    if (this.#keeper.hangs) this.problem ??= `keeper ${this.#keeper.pid} is lost: it does not answer`;
    if (this.problem !== undefined) throw new KeeperLostError(this.problem);
  }
}

/** The keepers of a host: what several agents after one another find. */
export class FakeKeepers {
  readonly running = new Map<number, FakeKeeper>();
  readonly sockets: FakeSockets;
  readonly descriptors_max: number;
  /** Instead of starting one. */
  problem: string | undefined;
  started = 0;
  /** How often one was asked for. */
  asked = 0;
  now = 0;
  /** As in a container that is the agent's alone. */
  endsAll = false;
  /** Whether their processes can be told from the agent's. */
  identities = true;
  readonly warnings: string[] = [];

  constructor(sockets: FakeSockets, descriptors_max = 1_000) {
    this.sockets = sockets;
    this.descriptors_max = descriptors_max;
  }

  /** As an agent sees them. */
  agent(reserved = 0, isNeeded = true): Keepers {
    return new Keepers({
      open: async (number) => {
        this.asked++;
        const found = this.running.get(number);
        if (found?.hangs) found.die();
        const connected = this.#connect(number);
        if (connected.ok) return connected;
        if (this.problem !== undefined) return err(this.problem);
        this.running.set(number, new FakeKeeper(5_000 + ++this.started, this.sockets, this.descriptors_max));
        return this.#connect(number);
      },
      connect: (number) => this.#connect(number),
      found: () => [...this.running.keys()],
      isNeeded,
      reserved,
      log: pino({ level: 'warn' }, { write: (line: string) => this.warnings.push(line) }),
      now: () => this.now,
      endsAll: this.endsAll,
    });
  }

  /** The records of bound placeholders in each keeper. */
  counts(): readonly number[] {
    return [...this.running.values()].map(({ kept }) => kept[kinds.bound]?.size ?? 0);
  }

  #connect(number: number) {
    const keeper = this.running.get(number);
    return keeper && !keeper.isDead
      ? ok(new FakeKeeperClient(keeper, this.identities))
      : err(`no keeper ${number} is at work`);
  }
}

type Options = Readonly<{ mark?: number; bound_max?: number; reserved?: number }>;
type Both = Readonly<{ placeholders: Placeholders; keepers: Keepers }>;

/** Placeholders of an agent that finds no keeper, with those that it will start. */
export function newPlaceholders(host: FakeKeepers, o: Options = {}): Both {
  const keepers = host.agent(o.reserved);
  const placeholders = new Placeholders({
    open: host.sockets.open,
    keepers,
    table: host.sockets,
    mark: o.mark ?? 42,
    budget: { bound_max: o.bound_max ?? 1_000, remedy: 'claim less' },
    log: pino({ level: 'silent' }),
  });
  return { placeholders, keepers };
}

/** Those of an agent that has taken over what it found. */
export async function placeholdersIn(host: FakeKeepers, o: Options = {}): Promise<Both> {
  const both = newPlaceholders(host, o);
  const begun = await both.keepers.begin();
  if (!begun.ok) throw new Error(begun.error);
  both.placeholders.adopt(begun.value);
  return both;
}
