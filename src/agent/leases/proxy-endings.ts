import type { Logger } from '../../ops/logger.ts';
import { ENOENT } from '../../sys/constants.ts';
import { errnoName } from '../../sys/errno.ts';
import type { Ownership } from './ownership.ts';
import { describeUser, usersOfMany, type BlockOfLease, type PortUser, type SocketTable } from './port-users.ts';

/** Between two looks at the same lease: doubled from the first to the last. */
const look_first_ms = 50;
const look_max_ms = 2_000;

export type ProxyEnding = BlockOfLease &
  Ownership &
  Readonly<{
    /** Whether another lease of the same sender on the same block goes on: its sockets cannot be told from this one's. */
    isCovered: () => boolean;
    /** Its end waits for nobody: what its holder has open there is cut. */
    isForced: boolean;
  }>;

type Waiting = ProxyEnding & {
  dueAt: number;
  waitMs: number;
  users: readonly PortUser[];
  /** Closed sockets without an owner that were there when the last one with an owner was gone. */
  lingering: ReadonlySet<string> | undefined;
  /** Sockets that were cut, as they were then: what becomes something else is cut again. */
  readonly cut: Set<string>;
};

/**
 * Proxies' leases that end: the agent cannot close a proxy's sockets, it can only watch until none is left, or cut them
 * where the end is forced. A port that was taken by bind() is held even then until its program closes the socket. What
 * never lets go stays here, and says who it is.
 */
export class ProxyEndings {
  readonly #table: SocketTable;
  readonly #isOurMark: (mark: number) => boolean;
  readonly #now: () => number;
  readonly #log: Pick<Logger, 'warn'>;
  readonly #waiting = new Map<string, Waiting>();

  constructor(
    table: SocketTable,
    o: Readonly<{ isOurMark: (mark: number) => boolean; now: () => number; log: Pick<Logger, 'warn'> }>,
  ) {
    this.#table = table;
    this.#isOurMark = o.isOurMark;
    this.#now = o.now;
    this.#log = o.log;
  }

  /** Looks at this lease's ports from now on, at once for the first time. */
  watch(ending: ProxyEnding): void {
    const before = this.#waiting.get(ending.lease);
    if (before && (before.isForced || !ending.isForced)) return;
    const fresh = { dueAt: this.#now(), waitMs: look_first_ms, users: [], lingering: before?.lingering };
    this.#waiting.set(ending.lease, { ...ending, ...fresh, cut: new Set() });
  }

  /** Nobody waits for it any more. */
  forget(lease: string): void {
    this.#waiting.delete(lease);
  }

  /** Milliseconds until the next look is due; undefined when nothing is waited for. */
  nextLookInMs(): number | undefined {
    const next = Math.min(...[...this.#waiting.values()].map((each) => each.dueAt));
    return Number.isFinite(next) ? Math.max(0, next - this.#now()) : undefined;
  }

  /** Looks at those that are due and returns the leases that nobody uses any more; they are watched no longer. */
  look(): readonly string[] {
    const now = this.#now();
    const due = [...this.#waiting.values()].filter((each) => each.dueAt <= now);
    if (due.length === 0) return [];
    const users = usersOfMany(this.#table, due, this.#isOurMark);
    return due.flatMap((each) => {
      each.users = stillUsing(each, users.get(each.lease) ?? []);
      if (each.users.length === 0) {
        this.#waiting.delete(each.lease);
        return [each.lease];
      }
      // Cut at each look, because what was bound may have begun something since.
      if (each.isForced) this.#cut(each);
      each.dueAt = now + each.waitMs;
      each.waitMs = Math.min(each.waitMs * 2, look_max_ms);
      return [];
    });
  }

  #cut(each: Waiting): void {
    for (const user of each.users) {
      const is = `${user.cookie} ${user.what}`;
      // Not a stranger's. Nor one on all addresses: it has other work, and holds the port whether it is cut or not.
      const isTheirs = each.isOwn(user) || user.inode === 0;
      if (user.socket?.localAddress !== each.block.address || !isTheirs || each.cut.has(is)) continue;
      each.cut.add(is);
      const refused = -this.#table.destroy(user.socket);
      if (refused !== 0 && refused !== ENOENT)
        this.#log.warn({ lease: each.lease, errno: errnoName(refused) }, `the kernel would not cut ${user.what}`);
    }
  }

  /** Who a lease waits for, for people; null when nobody was seen. */
  waitsFor(lease: string): string | null {
    const users = this.#waiting.get(lease)?.users ?? [];
    const [first, ...others] = users;
    if (!first) return null;
    return `${describeUser(this.#table, first)}${others.length > 0 ? ` and ${others.length} more` : ''}`;
  }
}

/**
 * Whom the end of a lease has to wait for. On an exclusive block: everybody. On a shared one: the holder's own. Of a closed
 * socket it may be unknown whose it was, so of those the ones count that were there when the holder's last open socket
 * went; a busy neighbour's later ones do not.
 */
function stillUsing(each: Waiting, users: readonly PortUser[]): readonly PortUser[] {
  if (each.block.mode === 'exclusive') return users;
  if (each.isCovered()) return [];
  const own = users.filter((user) => each.isOwn(user));
  const nameless = users.filter((user) => each.mayHaveBeenOwn(user));
  if (own.some((user) => user.inode !== 0)) return [...own, ...nameless];
  each.lingering ??= new Set(nameless.map((user) => user.cookie));
  const { lingering } = each;
  return [...own, ...nameless.filter((user) => lingering.has(user.cookie))];
}
