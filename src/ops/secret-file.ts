import { readSecretFile } from './settings.ts';

/** How often a file is looked at, at most: a token that was rotated is used that soon. */
const look_every_ms = 1_000;

/**
 * A secret in a file that may be replaced while the process runs, as a rotated token is. Asked for it again, it tells what
 * the file holds now; when the file cannot be read, or is empty because it is just being written, what it held before.
 */
export class SecretFile {
  readonly #file: string;
  readonly #nowMs: () => number;
  #value: string;
  #lookedAtMs: number;

  /** `value`: as it was read when the process started, which told what was wrong with it. */
  constructor(file: string, value: string, nowMs: () => number = () => performance.now()) {
    this.#file = file;
    this.#value = value;
    this.#nowMs = nowMs;
    this.#lookedAtMs = nowMs();
  }

  readonly read = (): string => {
    const nowMs = this.#nowMs();
    if (nowMs - this.#lookedAtMs >= look_every_ms) {
      this.#lookedAtMs = nowMs;
      const read = readSecretFile(this.#file);
      if (read.ok) this.#value = read.value;
    }
    return this.#value;
  };
}
