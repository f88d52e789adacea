import { familyOf } from '../../net/address.ts';
import { rangeContains, type PortRange } from '../../net/ports.ts';
import type { PingSocket, SocketInfo } from '../../sys/sock-diag.ts';
import type { Block } from '../host/sets.ts';

/** What the agent asks the kernel about sockets; src/sys answers in production, a table in tests. */
export interface SocketTable {
  sockets(q: { protocol: 'tcp' | 'udp'; family: 4 | 6; ports: PortRange; address?: string }): readonly SocketInfo[];
  pingSockets(q: { identifiers: PortRange }): readonly PingSocket[];
  processesOf(inodes: ReadonlySet<number>): ReadonlyMap<number, readonly Readonly<{ pid: number; command: string }>[]>;
  /** Ends the connection of exactly this socket: 0, or -errno; -ENOENT when it is gone, or has none to end. */
  destroy(socket: SocketInfo): number;
}

/** A socket on a leased port, as it is told to people. */
export type PortUser = Readonly<{
  port: number;
  uid: number;
  inode: number;
  /** The kernel's number of the cgroup that it was opened in; undefined where the kernel does not tell. */
  cgroup: string | undefined;
  what: string;
  cookie: string;
  /** As the kernel knows it; null for a ping socket, which has nothing that could be cut. */
  socket: SocketInfo | null;
}>;

const anyAddress: readonly string[] = ['0.0.0.0', '::'];

/**
 * The sockets on a block's ports, in any state but TIME_WAIT, which holds nothing that could still send on its own. Those
 * that carry the mark of fish's placeholders (`isOurs`) are left out.
 */
export function usersOf(table: SocketTable, block: Block, isOurs: (mark: number) => boolean): readonly PortUser[] {
  const { address, protocol, ports } = block;
  if (protocol === 'icmp')
    return table
      .pingSockets({ identifiers: ports })
      .filter((socket) => socket.localAddress === address || anyAddress.includes(socket.localAddress))
      .map(pingUser);
  return table
    .sockets({ protocol, family: familyOf(address), ports, address })
    .filter((socket) => isUse(socket, isOurs))
    .map(portUser);
}

/**
 * The sockets that keep a block from being held exclusively: those on its ports, and for echo those with its identifiers
 * on whatever address, because the whole host shares the identifiers.
 */
export function conflictsOf(table: SocketTable, block: Block): readonly PortUser[] {
  return block.protocol === 'icmp'
    ? table.pingSockets({ identifiers: block.ports }).map(pingUser)
    : usersOf(table, block, () => false);
}

/** `conflictsOf` of many blocks, by lease, with one reading of the kernel's table per protocol and family. */
export function conflictsOfMany(
  table: SocketTable,
  blocks: readonly BlockOfLease[],
): ReadonlyMap<string, readonly PortUser[]> {
  const echo = blocks.filter(({ block }) => block.protocol === 'icmp');
  const conflicts = new Map(
    usersOfMany(
      table,
      blocks.filter(({ block }) => block.protocol !== 'icmp'),
      () => false,
    ),
  );
  const pings = echo.length === 0 ? [] : table.pingSockets({ identifiers: spanOf(echo) }).map(pingUser);
  for (const { lease, block } of echo) conflicts.set(lease, pings.filter(isOn(block)));
  return conflicts;
}

/** A lease that begins or ends, and what that depends on. */
export type BlockOfLease = Readonly<{ lease: string; block: Block }>;

const spanOf = (blocks: readonly BlockOfLease[]): PortRange => {
  let [first, last] = [Infinity, 0];
  for (const { block } of blocks)
    [first, last] = [Math.min(first, block.ports.first), Math.max(last, block.ports.last)];
  return { first, last };
};

const isOn =
  ({ ports }: Block) =>
  ({ port }: PortUser): boolean =>
    rangeContains(ports, { first: port, last: port });

/**
 * Who uses blocks, by lease. One reading of the kernel's table per protocol and family however many there are: a session
 * may end with a hundred thousand leases.
 */
export function usersOfMany(
  table: SocketTable,
  blocks: readonly BlockOfLease[],
  isOurs: (mark: number) => boolean,
): ReadonlyMap<string, readonly PortUser[]> {
  const users = new Map<string, PortUser[]>();
  for (const group of Map.groupBy(blocks, ({ block }) => `${block.protocol}${familyOf(block.address)}`).values()) {
    const [first] = group;
    if (!first) continue;
    // One block, or few: let the kernel filter by address as well.
    if (group.length === 1) {
      users.set(first.lease, [...usersOf(table, first.block, isOurs)]);
      continue;
    }
    const { protocol, address } = first.block;
    const ports = spanOf(group);
    const found: readonly Readonly<{ address: string; user: PortUser }>[] =
      protocol === 'icmp'
        ? table
            .pingSockets({ identifiers: ports })
            .map((socket) => ({ address: socket.localAddress, user: pingUser(socket) }))
        : table
            .sockets({ protocol, family: familyOf(address), ports })
            .filter((socket) => isUse(socket, isOurs))
            .map((socket) => ({ address: socket.localAddress, user: portUser(socket) }));
    const byAddress = Map.groupBy(found, (each) => each.address);
    const wild = anyAddress.flatMap((each) => byAddress.get(each) ?? []);
    for (const { lease, block } of group)
      users.set(lease, [...(byAddress.get(block.address) ?? []), ...wild].map(({ user }) => user).filter(isOn(block)));
  }
  return users;
}

const isUse = (socket: SocketInfo, isOurs: (mark: number) => boolean): boolean =>
  socket.state !== 'time-wait' && !(socket.mark !== undefined && isOurs(socket.mark));

function portUser(socket: SocketInfo): PortUser {
  const { localPort, uid, inode, cgroup, protocol, state, localAddress, remoteAddress, remotePort, cookie } = socket;
  const remote = remotePort === 0 ? '' : ` to ${remoteAddress} port ${remotePort}`;
  return {
    port: localPort,
    uid,
    inode,
    cgroup,
    what: `a ${protocol} socket (${state}) on ${localAddress} port ${localPort}${remote}`,
    cookie: `${cookie.family} ${Buffer.from(cookie.id).toString('hex')}`,
    socket,
  };
}

const pingUser = ({ identifier, uid, inode, localAddress }: PingSocket): PortUser => ({
  port: identifier,
  uid,
  inode,
  cgroup: undefined,
  what: `a ping socket on ${localAddress} identifier ${identifier}`,
  cookie: `ping ${inode}`,
  socket: null,
});

/** `a tcp socket (listen) on 0.0.0.0 port 9003 of user 33: nginx[812]`. */
export function describeUser(table: SocketTable, user: PortUser): string {
  const owners = user.inode === 0 ? [] : (table.processesOf(new Set([user.inode])).get(user.inode) ?? []);
  const names = owners.map(({ command, pid }) => `${command}[${pid}]`).join(', ');
  return `${user.what} of user ${user.uid}: ${names || 'no process shows it'}`;
}
