import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FishKeeping } from '../../src/agent/fish/fish-place.ts';
import { connectKeeper, type KeeperClient } from '../../src/keeper/client.ts';
import { keeperPrograms } from '../../src/keeper/program.ts';
import { kinds } from '../../src/keeper/protocol.ts';
import { startKeeper } from '../../src/keeper/start.ts';

/** A keeper of this test's own, as fish sees one. */
export class TestKeeper implements FishKeeping {
  readonly path: string;
  readonly client: KeeperClient;
  readonly #folder: string;

  private constructor(folder: string, path: string, client: KeeperClient) {
    this.#folder = folder;
    this.path = path;
    this.client = client;
  }

  static async start(): Promise<TestKeeper> {
    const folder = mkdtempSync(join(tmpdir(), 'fishery-fish-keeper-'));
    const path = join(folder, 'keeper.sock');
    const programs = keeperPrograms('typescript', folder);
    const problem = programs.ok ? await startKeeper(path, programs.value[0]!) : programs.error;
    if (problem !== undefined) throw new Error(problem);
    const connected = connectKeeper(path);
    if (!connected.ok) throw new Error(connected.error);
    return new TestKeeper(folder, path, connected.value);
  }

  flowKeepers(): readonly { number: number; path: string; flows_max: number }[] {
    return [{ number: 0, path: this.path, flows_max: 1_000 }];
  }

  keep(slot: number, record: Uint8Array, fd: number): void {
    if (this.client.put(kinds.singleton, slot, record, fd) < 0) throw new Error(this.client.problem);
  }

  takeKept(slot: number): Readonly<{ record: Uint8Array; fd: number }> | undefined {
    return this.client.takeOne(kinds.singleton, slot);
  }

  /** It puts nothing again, so it remembers nothing. */
  release(): void {}

  remove(slot: number): void {
    this.client.drop(kinds.singleton, [slot]);
  }

  /** How many placeholders of flows it has. */
  get flows(): number {
    return this.client.stats().kept[kinds.flow] ?? NaN;
  }

  end(): void {
    this.client.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
