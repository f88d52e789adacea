import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';

/** What /proc/uptime says to one process: the truth, and the time that it is made to have slept. */
export class FakeUptime {
  readonly file: string;
  readonly #fd: number;
  readonly #timer: NodeJS.Timeout;
  #sleptMs = 0;

  constructor(file: string) {
    this.file = file;
    writeFileSync(file, this.#text());
    this.#fd = openSync(file, 'r+');
    // Always of one length and in one piece, so that no reader finds half of it.
    this.#timer = setInterval(() => writeSync(this.#fd, this.#text(), 0), 10);
  }

  #text(): string {
    const [seconds = ''] = readFileSync('/proc/uptime', 'utf8').split(' ');
    return `${(Number(seconds) + this.#sleptMs / 1_000).toFixed(2).padStart(14, '0')} 0.00\n`;
  }

  sleepFor(s: number): void {
    this.#sleptMs += s * 1_000;
  }

  stop(): void {
    clearInterval(this.#timer);
    closeSync(this.#fd);
  }
}
