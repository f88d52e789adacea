import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FisheryClient } from '../src/sdk/index.ts';
import { ServerUnderTest } from './processes.ts';

/** A folder of its own that is gone afterwards. Its disk is the one that commits are measured on: TMPDIR chooses it. */
export class Scratch implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'fishery-bench-'));

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A running server with its operator's client. */
export class World implements AsyncDisposable {
  readonly server: ServerUnderTest;
  readonly token: string;
  readonly client: FisheryClient;

  private constructor(server: ServerUnderTest, token: string) {
    this.server = server;
    this.token = token;
    this.client = new FisheryClient({ url: server.url.origin, token, timeoutMs: 60_000 });
  }

  static async start(directory: string, settings: readonly string[] = []): Promise<World> {
    const server = await ServerUnderTest.fishery(['--data-dir', directory, ...settings]);
    return new World(server, readFileSync(join(directory, 'operator.token'), 'utf8').trim());
  }

  /** One more server on the database of another, whose token is valid here too. */
  static async join(directory: string, settings: readonly string[], token: string): Promise<World> {
    return new World(await ServerUnderTest.fishery(['--data-dir', directory, ...settings]), token);
  }

  /** A pool with room for `slices` slices of 2,048 ports. */
  async pool(id: string, slices: number): Promise<void> {
    const slicesPerAddress = 32;
    const bits = Math.max(0, Math.ceil(Math.log2(slices / slicesPerAddress)));
    const prefixes = [`100.64.0.0/${32 - bits}`];
    await this.client.pools.create({ id, prefixes, usable_ports: { first: 0, last: 65_535 } });
  }

  /** A machine whose word counts, with slices and a holder with a session; the session's id. */
  async machine(id: string, pool: string, slices: number): Promise<string> {
    await this.client.machines.create({ id, enforcement: 'none' });
    for (let left = slices; left > 0; left -= 1_000)
      await this.client.slices.assign({ machine: id, pool, count: Math.min(left, 1_000) });
    await this.client.machines.putHolder(id, 'proxy', { kind: 'proxy' });
    const session = await this.client.sessions.open({ machine: id, holder: 'proxy', ttl_s: 3_600 });
    return session.id;
  }

  /** The token that a holder's own program has: what operators do is audited besides, what holders do is not. */
  async tokenOf(machine: string): Promise<string> {
    const { secret } = await this.client.tokens.create({ name: machine, role: 'holder', machine, holder: 'proxy' });
    return secret;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }
}
