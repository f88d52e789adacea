import { setTimeout as sleep } from 'node:timers/promises';
import { AF_UNIX, EAGAIN, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET } from '../../src/sys/constants.ts';
import { closeFd } from '../../src/sys/descriptors.ts';
import { libc } from '../../src/sys/libc.ts';

/**
 * Something like a TUN that takes no root: one end of a pair of sockets that keep the borders of packets. What the other
 * end sends is read from `fd`, what is written to `fd` arrives at the other end. Closing the other end is the device's end.
 */
export class SocketTun {
  readonly fd: number;
  #other: number;

  constructor() {
    const pair = new Int32Array(new ArrayBuffer(8));
    const c = libc();
    if (c.socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
      throw new Error(`socketpair: errno ${c.errno()}`);
    [this.fd, this.#other] = [pair[0]!, pair[1]!];
  }

  send(packet: Uint8Array): void {
    const c = libc();
    if (c.write(this.#other, packet, packet.length) < 0) throw new Error(`write: errno ${c.errno()}`);
  }

  /** The next packet that was written to `fd`; undefined when none comes within `ms`. */
  async receive(ms = 2_000): Promise<Uint8Array | undefined> {
    const buffer = new Uint8Array(new ArrayBuffer(70_000));
    const c = libc();
    for (let waitedMs = 0; waitedMs <= ms; waitedMs += 5) {
      const bytes = c.read(this.#other, buffer, buffer.length);
      if (bytes >= 0) return buffer.slice(0, bytes);
      if (c.errno() !== EAGAIN) throw new Error(`read: errno ${c.errno()}`);
      await sleep(5);
    }
    return undefined;
  }

  endOtherSide(): void {
    closeFd(this.#other);
    this.#other = -1;
  }

  close(): void {
    if (this.#other >= 0) this.endOtherSide();
    closeFd(this.fd);
  }
}
