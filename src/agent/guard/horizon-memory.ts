import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Logger } from '../../ops/logger.ts';
import { replaceFile } from '../../ops/replace-file.ts';

const fileName = 'horizon.json';

const Content = z.strictObject({
  version: z.literal(1),
  /** Boot and network namespace: the clock of another boot is another clock. */
  host: z.string(),
  machine: z.string(),
  horizon_ms: z.number(),
  fence_s: z.number().positive(),
});
type Content = z.infer<typeof Content>;

/** The last instant until which the machine may use its slices, on the clock that goes on in sleep; `fence_s`: how it was counted. */
export type Horizon = Readonly<{ at_ms: number; fence_s: number }>;

export type HorizonMemoryParts = Readonly<{
  folder: string;
  machine: string;
  /** Boot and network namespace. */
  host: string;
  /** Milliseconds since the machine started, sleep included (CLOCK_BOOTTIME). */
  now(): number;
  log: Pick<Logger, 'warn'>;
}>;

/**
 * Until when the server has let this machine use what it has, on disk for the next agent of this boot. It is written before the
 * guard is opened by it. One that cannot be written leaves the one before, which is earlier: the next agent is shut too soon, and
 * never too late. After a reboot it says nothing, so nothing is fsynced.
 */
export class HorizonMemory {
  readonly #parts: HorizonMemoryParts;
  #isTroubled = false;

  constructor(parts: HorizonMemoryParts) {
    this.#parts = parts;
  }

  /**
   * What a former agent of this boot was granted last; undefined where that is not known. One that is further away than any
   * answer could have said is of another clock, and taken to have passed. Never throws.
   */
  read(): Horizon | undefined {
    const { folder, machine, host, now, log } = this.#parts;
    const path = join(folder, fileName);
    try {
      const content = Content.parse(JSON.parse(readFileSync(path, 'utf8')));
      if (content.host !== host || content.machine !== machine) return undefined;
      const { horizon_ms: at_ms, fence_s } = content;
      if (at_ms <= now() + fence_s * 1_000) return { at_ms, fence_s };
      log.warn(`${path} is by another clock than this host has now: its horizon is taken to have passed`);
      return { at_ms: 0, fence_s };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn(`${path} is of no use, the guard in the kernel is gone by: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** The server has granted this one. Never throws. */
  note({ at_ms, fence_s }: Horizon): void {
    const { folder, machine, host, log } = this.#parts;
    const content: Content = { version: 1, host, machine, horizon_ms: at_ms, fence_s };
    try {
      replaceFile(folder, fileName, `${JSON.stringify(content)}\n`, false);
      this.#isTroubled = false;
    } catch (error) {
      if (!this.#isTroubled)
        log.warn(
          `the horizon cannot be written down, an agent that starts anew may be shut too soon: ${messageOf(error)}`,
        );
      this.#isTroubled = true;
    }
  }
}

/** The host is bare: it has nothing to use. Never throws. */
export function forgetHorizon(folder: string): void {
  try {
    rmSync(join(folder, fileName), { force: true });
  } catch {
    // An earlier horizon lets nobody do anything.
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 300);
