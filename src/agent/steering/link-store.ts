/** A program that is attached to a device: the link's descriptor, and which program it was when it was kept. */
export type KeptLink = Readonly<{ device: string; label: string; fd: number }>;

/**
 * Who has the links open. The last descriptor of a link that is closed takes the program off its device, so whoever
 * outlives the agent should have one.
 */
export interface LinkStore {
  list(): readonly KeptLink[];
  /** Takes the descriptor over. One link for each device: the one before it is closed, unless it is the same. */
  keep(link: KeptLink): void;
  /** Closes the link of a device, if there is one. */
  drop(device: string): void;
}

/** In this process: when the agent ends, so does its steering by eBPF, and the rules of nftables make that a silence. */
export class OwnLinks implements LinkStore {
  readonly #links = new Map<string, KeptLink>();
  readonly #close: (fd: number) => void;

  constructor(close: (fd: number) => void) {
    this.#close = close;
  }

  list(): readonly KeptLink[] {
    return [...this.#links.values()];
  }

  keep(link: KeptLink): void {
    const before = this.#links.get(link.device);
    this.#links.set(link.device, link);
    if (before && before.fd !== link.fd) this.#close(before.fd);
  }

  drop(device: string): void {
    const link = this.#links.get(device);
    this.#links.delete(device);
    if (link) this.#close(link.fd);
  }

  /** Closes all that is open here; whoever else has a link open keeps its program in place. */
  close(): void {
    for (const { fd } of this.#links.values()) this.#close(fd);
    this.#links.clear();
  }
}
