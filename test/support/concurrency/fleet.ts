import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServerProcess } from '../server-process.ts';

type Place = { readonly port: number; readonly folder: string; process: ServerProcess | null };

/** Server processes on one database, each at an address of its own that it has again after it was killed. */
export class Fleet implements AsyncDisposable {
  readonly #database: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'fishery-fleet-'));
  readonly #places: Place[] = [];
  kills = 0;
  /** What servers wrote to their standard error, those that were killed included. */
  complaints = '';

  private constructor(database: string) {
    this.#database = database;
  }

  static async start(database: string, servers: number): Promise<Fleet> {
    const fleet = new Fleet(database);
    for (let index = 0; index < servers; index++) {
      const place: Place = { port: await freePort(), folder: join(fleet.#folder, String(index)), process: null };
      fleet.#places.push(place);
      // The first makes the tables and the operator's token; the others find them there.
      await fleet.#startAt(place);
    }
    return fleet;
  }

  get urls(): readonly string[] {
    return this.#places.map(({ port }) => `http://127.0.0.1:${port}`);
  }

  get operatorToken(): string {
    return readFileSync(join(this.#places[0]?.folder ?? '', 'operator.token'), 'utf8').trim();
  }

  /** Kills servers at random, starts each again after a while, until the signal comes. Two at the most are away at once. */
  async rage(signal: AbortSignal, random: () => number): Promise<void> {
    while (!isOver(signal)) {
      await sleep(300 + random() * 1_200, undefined, { signal }).catch(() => {});
      const place = this.#places[Math.floor(random() * this.#places.length)];
      if (!place?.process || isOver(signal)) continue;
      const { process } = place;
      place.process = null;
      process.child.kill('SIGKILL');
      this.kills++;
      await process.ended;
      this.#hear(process);
      await sleep(random() * 500);
      await this.#startAt(place);
    }
  }

  /** Ends all servers in good order; their exit codes. */
  async stop(): Promise<readonly (number | null)[]> {
    const running = this.#places.flatMap(({ process }) => (process ? [process] : []));
    for (const { child } of running) child.kill('SIGTERM');
    const codes = await Promise.all(running.map(({ ended }) => ended));
    for (const process of running) this.#hear(process);
    return codes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { process } of this.#places) process?.child.kill('SIGKILL');
    await Promise.all(this.#places.flatMap(({ process }) => (process ? [process.ended] : [])));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #startAt(place: Place): Promise<void> {
    const started = new ServerProcess(
      ['--data-dir', place.folder, '--port', String(place.port), '--log-level', 'error'],
      { FISHERY_DATABASE_URL: this.#database },
    );
    place.process = started;
    const url = await started.url();
    if (!url.startsWith('http')) throw new Error(url);
  }

  #hear({ out, err }: ServerProcess): void {
    this.complaints += err + out.replace(/^(?:listening|docs|token) +.*\n/gm, '');
  }
}

/** Asked anew: the compiler takes what it saw before a wait for what is. */
const isOver = (signal: AbortSignal): boolean => signal.aborted;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
