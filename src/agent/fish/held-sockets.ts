import type { Placeholders } from '../../fish/ports/placeholders.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { openConnected4, openConnected6 } from '../../sys/placeholders.ts';

/** Placeholders as the kernel has them: a handle is the descriptor of a Fast Open socket that waits in SYN-SENT. */
export class HeldSockets implements Placeholders {
  readonly #mark: number;
  /** Nothing is ever found. */
  readonly disbelieved = 0;

  /** `mark`: the SO_MARK of all of them; 0: none. */
  constructor(mark: number) {
    this.#mark = mark;
  }

  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number {
    return openConnected4(address, port, remote, remotePort, binding, this.#mark);
  }

  open6(
    address: Uint8Array,
    port: number,
    remote: Uint8Array,
    remotePort: number,
    binding: 'late' | 'explicit',
  ): number {
    return openConnected6(address, port, remote, remotePort, binding, this.#mark);
  }

  close(handle: number): void {
    closeFd(handle);
  }

  /** They end with the thread that opened them. */
  adopt(): boolean {
    return false;
  }

  adopt6(): boolean {
    return false;
  }

  settle(): number {
    return 0;
  }
}
