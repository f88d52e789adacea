import { SplicePipe } from '../sys/splice-pipe.ts';

/** The more at once, the fewer calls, and the fewer wake-ups of whoever reads. */
const pipe_bytes = 1_024 * 1_024;
/** Together a quarter of what a user without privileges may have in pipes (fs.pipe-user-pages-soft), and few descriptors. */
const pipes_max = 16;

/** The pipes of a process: each with whoever just uses it, or holds in it what a slow reader has not taken yet. */
export class Pipes {
  #most: number;
  readonly #free: SplicePipe[] = [];
  #count = 0;

  constructor(most = pipes_max) {
    this.#most = most;
  }

  /** An empty one; undefined when all are in use. */
  take(): SplicePipe | undefined {
    const free = this.#free.pop();
    if (free || this.#count >= this.#most) return free;
    const opened = SplicePipe.open(pipe_bytes);
    if (opened) this.#count++;
    return opened;
  }

  /** Those that something is in, whenever this is asked between two events. */
  get inUse(): number {
    return this.#count - this.#free.length;
  }

  /** How many there may be. */
  get most(): number {
    return this.#most;
  }

  /** No more of them: the kernel does not let this process use them. */
  forsake(): void {
    this.#most = 0;
    for (const pipe of this.#free.splice(0)) this.#drop(pipe);
  }

  /** What is still in it is lost. */
  give(pipe: SplicePipe): void {
    if (pipe.held === 0 && this.#most > 0) {
      this.#free.push(pipe);
      return;
    }
    this.#drop(pipe);
  }

  #drop(pipe: SplicePipe): void {
    this.#count--;
    pipe.close();
  }
}
