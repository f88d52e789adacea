/** How many connections each client has, so that none can have them all. */
export class ClientCounts {
  readonly #counts = new Map<string, number>();

  /** Counts one more, unless the client has `most` already. */
  take(client: string, most: number): boolean {
    const count = this.#counts.get(client) ?? 0;
    if (count >= most) return false;
    this.#counts.set(client, count + 1);
    return true;
  }

  give(client: string): void {
    const count = this.#counts.get(client);
    if (count === undefined) throw new Error(`${client} has no connection`);
    if (count === 1) this.#counts.delete(client);
    else this.#counts.set(client, count - 1);
  }

  get clients(): number {
    return this.#counts.size;
  }
}
