import { readFileSync } from 'node:fs';
import { rangeContains } from '../../net/ports.ts';
import { AF_INET } from '../../sys/constants.ts';
import { processesOf, SockDiag, type SocketInfo } from '../../sys/sock-diag.ts';
import type { SliceFact, SocketFact } from '../facts.ts';

const namesOf = (owners: ReturnType<typeof processesOf>, inode: number): string =>
  (owners.get(inode) ?? []).map(({ command, pid }) => `${command}[${pid}]`).join(', ') || 'no process shows it';

/** The sockets on ports of these slices, in any state but TIME_WAIT, which holds nothing that could still send. */
export function readSockets(
  slices: readonly SliceFact[],
  deviceNames: ReadonlyMap<number, string>,
): readonly SocketFact[] {
  if (slices.length === 0) return [];
  const ports = {
    first: Math.min(...slices.map((slice) => slice.ports.first)),
    last: Math.max(...slices.map((slice) => slice.ports.last)),
  };
  const isIn = (port: number) => slices.some((slice) => rangeContains(slice.ports, { first: port, last: port }));
  const diag = new SockDiag();
  try {
    const found = new Map<string, SocketInfo>();
    // A dual-stack socket is among the answers for both families.
    for (const protocol of ['tcp', 'udp'] as const)
      for (const family of [4, 6] as const)
        for (const socket of diag.sockets({ protocol, family, ports }))
          if (socket.state !== 'time-wait' && isIn(socket.localPort))
            found.set(`${protocol} ${socket.cookie.family} ${Buffer.from(socket.cookie.id).toString('hex')}`, socket);
    const pings = diag.pingSockets({ identifiers: ports }).filter(({ identifier }) => isIn(identifier));
    const sockets = [...found.values()];
    const owners = processesOf(
      new Set([...sockets, ...pings].map(({ inode }) => inode).filter((inode) => inode !== 0)),
    );
    return [
      ...sockets.map((socket) => ({
        protocol: socket.protocol,
        state: socket.state,
        address: socket.localAddress,
        port: socket.localPort,
        remote: socket.remotePort === 0 ? '' : `${socket.remoteAddress}:${socket.remotePort}`,
        uid: socket.uid,
        mark: socket.mark,
        bindsLate: socket.bindsLate,
        device: socket.device === undefined ? undefined : (deviceNames.get(socket.device) ?? `#${socket.device}`),
        who: namesOf(owners, socket.inode),
      })),
      ...pings.map((socket) => ({
        protocol: 'icmp' as const,
        state: 'bound',
        address: socket.localAddress,
        port: socket.identifier,
        remote: '',
        uid: socket.uid,
        mark: undefined,
        bindsLate: undefined,
        device: undefined,
        who: namesOf(owners, socket.inode),
      })),
    ];
  } finally {
    diag.close();
  }
}

/** /proc/net/packet: `sk refcount type protocol interface running rmem user inode`, after a heading. */
export function readPacketSockets(): readonly Readonly<{ protocol: number; who: string }>[] {
  const rows = readFileSync('/proc/thread-self/net/packet', 'utf8')
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length >= 9);
  const owners = processesOf(new Set(rows.map((fields) => Number(fields[8]))));
  return rows.map((fields) => ({
    protocol: parseInt(fields[3] ?? '0', 16),
    who: namesOf(owners, Number(fields[8])),
  }));
}

const EPERM = 1;
const EOPNOTSUPP = 95;

/** Asks for the end of a socket that there cannot be (port 0, and a cookie of nobody): whether that is known, or refused. */
export function canDestroySockets(): boolean {
  const diag = new SockDiag();
  try {
    const answer = diag.destroy({
      family: 4,
      protocol: 'tcp',
      state: 'established',
      localAddress: '127.0.0.1',
      localPort: 0,
      remoteAddress: '127.0.0.1',
      remotePort: 0,
      uid: 0,
      inode: 0,
      cookie: { family: AF_INET, id: new Uint8Array(48) },
    });
    if (answer === -EPERM) throw new Error('only root may ask for that');
    return answer !== -EOPNOTSUPP;
  } finally {
    diag.close();
  }
}
