import { openStore } from '../src/db/open.ts';
import type { Claim, Command, CommandKind, Output } from '../src/leases/commands.ts';
import { LeaseService } from '../src/leases/lease-service.ts';
import type { Store } from '../src/leases/store.ts';
import { parsePrefix } from '../src/net/prefix.ts';
import { SteadyClock } from '../src/ops/clock.ts';

/** The engine on a SQLite file in this process: what a grant costs without HTTP around it. */
export class InProcess implements AsyncDisposable {
  readonly store: Store;
  readonly service: LeaseService;

  private constructor(store: Store) {
    this.store = store;
    this.service = new LeaseService({ store, clock: new SteadyClock() });
  }

  static async open(directory: string): Promise<InProcess> {
    return new InProcess(await openStore({ url: undefined, directory }, { newEpoch: () => 'bench', nowUs: () => 0 }));
  }

  async execute<K extends CommandKind>(command: Command<K>): Promise<Output<K>> {
    const result = await this.service.execute(command);
    if (!result.ok) throw new Error(`${command.kind} was refused: ${JSON.stringify(result.error)}`);
    return result.value;
  }

  /** A pool of IPv4 addresses, all ports of which are usable: 32 slices each. */
  async pool(id: string, prefix: string): Promise<void> {
    const parsed = parsePrefix(prefix);
    if (!parsed.ok) throw new Error(parsed.error);
    await this.execute({
      ...{ kind: 'createPool', id, labels: {}, prefixes: [parsed.value], slicePorts: 2_048, sharedBlockPorts: 128 },
      ...{ usablePorts: { first: 0, last: 65_535 }, cooldownUs: { tcp: 120e6, udp: 120e6, icmp: 120e6 } },
    });
  }

  /** A machine whose word counts, with slices and one holder `proxy`; the number of its session. */
  async machine(id: string, pool: string, slices: number): Promise<number> {
    await this.execute({ kind: 'createMachine', id, labels: {}, enforcement: 'none', fenceUs: 4_000_000 });
    for (let left = slices; left > 0; left -= 1_000)
      await this.execute({
        ...{ kind: 'assignSlices', machine: id, pool, count: Math.min(left, 1_000), family: null, at: null },
      });
    await this.execute({ kind: 'putHolder', machine: id, name: 'proxy', holderKind: 'proxy', uid: null });
    return this.session(id);
  }

  async session(machine: string): Promise<number> {
    const scope = {};
    const opened = await this.execute({ kind: 'openSession', scope, machine, holder: 'proxy', ttlUs: 3_600e6 });
    return opened.id;
  }

  /** Grants one-port TCP leases, `atOnce` under way at a time; microseconds for each. */
  async grant(session: number, count: number, atOnce: number): Promise<number> {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await this.execute({ kind: 'grantLeases', scope: {}, session, claims: [onePort] });
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: atOnce }, worker));
    return ((performance.now() - began) * 1_000) / count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service.close();
    await this.store.close();
  }
}

export const onePort: Claim = {
  ...{ protocol: 'tcp', ports: 1, count: 1, mode: 'exclusive', binding: null },
  ...{ pool: null, select: null, family: null, sticky: false, address: null, at: null },
};
