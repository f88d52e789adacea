import { readTlsMaterial, sameMaterial, type TlsMaterial, type TlsPaths } from './tls-files.ts';

export type TlsReloaderOptions = Readonly<{
  paths: TlsPaths;
  /** What is in use. */
  material: TlsMaterial;
  /** New connections are to use this. */
  apply: (material: TlsMaterial) => void;
  /** The files are there, and do not fit: what was in use stays in use. Told once for each text. */
  onProblem: (problem: string) => void;
  onReload: (material: TlsMaterial) => void;
  every_ms?: number;
  nowMs?: () => number;
}>;

/**
 * Takes in a renewed certificate without a restart. It looks at what the files hold, and not at when they were changed:
 * renewal tools replace links and folders as often as files. Halfway through a renewal certificate and key do not fit, so
 * what is in use stays until they do.
 */
export class TlsReloader {
  readonly #options: Required<TlsReloaderOptions>;
  #material: TlsMaterial;
  #problem: string | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TlsReloaderOptions) {
    this.#options = { every_ms: 10_000, nowMs: Date.now, ...options };
    this.#material = options.material;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.look(), this.#options.every_ms).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Looks now. */
  look(): void {
    const { paths, apply, onProblem, onReload, nowMs } = this.#options;
    const read = readTlsMaterial(paths, nowMs());
    if (!read.ok) {
      if (read.problem !== this.#problem) onProblem(read.problem);
      this.#problem = read.problem;
      return;
    }
    this.#problem = undefined;
    if (sameMaterial(read.value, this.#material)) return;
    apply(read.value);
    this.#material = read.value;
    onReload(read.value);
  }
}
