import { EAGAIN, EINTR, O_CLOEXEC, O_NONBLOCK } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { libc } from './libc.ts';

const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;
const SPLICE_F_NONBLOCK = 2;

const pair = new Int32Array(new ArrayBuffer(8));

/** By which bytes go from one socket to another without being copied. */
export class SplicePipe {
  /** Bytes that are in it. */
  held = 0;
  readonly #out: number;
  readonly #in: number;
  readonly #bytes: number;

  private constructor(out: number, into: number, bytes: number) {
    this.#out = out;
    this.#in = into;
    this.#bytes = bytes;
  }

  /** One that holds so many bytes, or what the kernel allows (64 KiB as a rule); undefined while there are no descriptors. */
  static open(bytes: number): SplicePipe | undefined {
    const c = libc();
    if (c.pipe2(pair, O_NONBLOCK | O_CLOEXEC) < 0) return undefined;
    const [out = -1, into = -1] = pair;
    c.fcntl(into, F_SETPIPE_SZ, bytes);
    return new SplicePipe(out, into, c.fcntl(into, F_GETPIPE_SZ, 0));
  }

  /**
   * Takes what this socket has received, as far as there is room: so many bytes; 0 where there is nothing at the moment, or no
   * more ever; or -errno, which the socket does not tell again.
   */
  pull(fd: number): number {
    const c = libc();
    const taken = c.splice(fd, null, this.#in, null, this.#bytes - this.held, SPLICE_F_NONBLOCK);
    if (taken >= 0) this.held += taken;
    return taken >= 0 ? taken : orNothing(c.errno());
  }

  /** Gives what is in it to this socket, as far as that takes it: so many bytes, 0 for none at the moment, or -errno. */
  push(fd: number): number {
    const c = libc();
    const given = c.splice(this.#out, null, fd, null, this.held, SPLICE_F_NONBLOCK);
    if (given >= 0) this.held -= given;
    return given >= 0 ? given : orNothing(c.errno());
  }

  /** Takes up to so many bytes out of it. */
  read(bytes: number): Uint8Array {
    const buffer = new Uint8Array(new ArrayBuffer(Math.min(bytes, this.held)));
    const read = libc().read(this.#out, buffer, buffer.length);
    if (read !== buffer.length) throw new Error(`a pipe with ${this.held} bytes gave ${read} of ${buffer.length}`);
    this.held -= read;
    return buffer;
  }

  /** With what is in it. */
  close(): void {
    closeFd(this.#out);
    closeFd(this.#in);
  }
}

const orNothing = (errno: number): number => (errno === EAGAIN || errno === EINTR ? 0 : -errno);
