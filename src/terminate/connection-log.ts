/** One connection to an origin, as the world sees it, and who was behind it. Instants are microseconds since 1970. */
export type ConnectionRecord = Readonly<{
  lease: string;
  client: string;
  clientPort: number;
  /** The leased address and port. */
  address: string;
  port: number;
  remote: string;
  remotePort: number;
  openedAt: number;
  /** null while it lasts. */
  closedAt: number | null;
}>;

/** Who had this port then? null: toward any remote. */
export type ConnectionQuery = Readonly<{
  address: string;
  port: number;
  remote: string | null;
  remotePort: number | null;
  /** Microseconds since 1970. */
  at: number;
}>;

export type ConnectionAnswer = Readonly<{
  matches: readonly ConnectionRecord[];
  /** More matched than were asked for. */
  truncated: boolean;
  /** Everything is known that ended between these two instants, or lasted then. */
  coversSince: number;
  coversThrough: number;
  marginUs: number;
}>;

type Entry = Omit<ConnectionRecord, 'closedAt'> & { closedAt: number | null };

/**
 * The connections that last, and the latest that have ended, so many of them. An attempt that fails is in it as well: its
 * packets were sent from that port.
 */
export class ConnectionLog {
  readonly #endedMax: number;
  readonly #marginUs: number;
  readonly #byPort = new Map<string, Set<Entry>>();
  /** In the order of their ends; the place that is written next has the oldest. */
  readonly #ended: Entry[] = [];
  #next = 0;
  #coversSince: number;
  #open = 0;

  /** `since`: when recording begins (µs). `marginUs`: how far instants may be from those of the host's clock. */
  constructor(o: Readonly<{ endedMax: number; since: number; marginUs: number }>) {
    this.#endedMax = o.endedMax;
    this.#coversSince = o.since;
    this.#marginUs = o.marginUs;
  }

  get entries(): Readonly<{ open: number; ended: number }> {
    return { open: this.#open, ended: this.#ended.length };
  }

  /** Records that a connection begins; call what it returns once, when it has ended (µs). */
  open(connection: Omit<ConnectionRecord, 'closedAt'>): (closedAt: number) => void {
    const entry: Entry = { ...connection, closedAt: null };
    const key = keyOf(entry);
    const there = this.#byPort.get(key);
    if (there) there.add(entry);
    else this.#byPort.set(key, new Set([entry]));
    this.#open++;
    return (closedAt) => {
      if (entry.closedAt !== null) return;
      entry.closedAt = closedAt;
      this.#open--;
      this.#keep(entry);
    };
  }

  search(query: ConnectionQuery, now: number, most: number): ConnectionAnswer {
    const found = [...(this.#byPort.get(keyOf(query)) ?? [])].filter(
      (entry) =>
        (query.remote === null || query.remote === entry.remote) &&
        (query.remotePort === null || query.remotePort === entry.remotePort) &&
        entry.openedAt - this.#marginUs <= query.at &&
        (entry.closedAt === null || query.at <= entry.closedAt + this.#marginUs),
    );
    return {
      matches: found.slice(0, most).map((entry) => ({ ...entry })),
      truncated: found.length > most,
      coversSince: this.#coversSince,
      coversThrough: now,
      marginUs: this.#marginUs,
    };
  }

  #keep(entry: Entry): void {
    const oldest = this.#ended[this.#next];
    if (oldest) this.#forget(oldest);
    this.#ended[this.#next] = entry;
    this.#next = (this.#next + 1) % this.#endedMax;
  }

  #forget(entry: Entry): void {
    const key = keyOf(entry);
    const there = this.#byPort.get(key);
    there?.delete(entry);
    if (there?.size === 0) this.#byPort.delete(key);
    // Clocks are set back now and then: the latest end is not always that of the latest entry.
    this.#coversSince = Math.max(this.#coversSince, (entry.closedAt ?? 0) + 1);
  }
}

const keyOf = ({ address, port }: Readonly<{ address: string; port: number }>): string => `${address} ${port}`;
