import { readFileSync } from 'node:fs';
import { ipv4FromNumber } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import { ipv6Text } from './sock-diag-message.ts';

/** A ping socket (SOCK_DGRAM with IPPROTO_ICMP), which holds an echo identifier of the whole host. */
export type PingSocket = Readonly<{
  family: 4 | 6;
  localAddress: string;
  identifier: number;
  uid: number;
  inode: number;
}>;

/**
 * The ping sockets of the calling thread's network namespace whose identifier lies in a range: both families, because
 * they share the identifiers. From /proc, because sock_diag has no handler for them.
 */
export function pingSockets(identifiers: PortRange): PingSocket[] {
  return ([4, 6] as const).flatMap((family) => {
    // thread-self: a worker may be in another namespace than the main thread, which /proc/net follows.
    const table = readFileSync(`/proc/thread-self/net/icmp${family === 4 ? '' : '6'}`, 'utf8');
    return parsePingTable(table, family).filter(
      ({ identifier }) => identifier >= identifiers.first && identifier <= identifiers.last,
    );
  });
}

/** /proc/net/icmp and icmp6: a heading, then `sl: address:port address:port st queues timer retransmits uid timeout inode`. */
export function parsePingTable(table: string, family: 4 | 6): PingSocket[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [address = '', identifier = ''] = (fields[1] ?? '').split(':');
      if (address.length !== (family === 4 ? 8 : 32)) return [];
      return [
        {
          family,
          localAddress: hexAddress(address),
          identifier: parseInt(identifier, 16),
          uid: Number(fields[7]),
          inode: Number(fields[9]),
        },
      ];
    });
}

/** Words of 32 bits, each printed as a number of the (little-endian) machine: the bytes of every word are turned round. */
function hexAddress(hex: string): string {
  const view = new DataView(new ArrayBuffer(hex.length / 2));
  for (let at = 0; at < view.byteLength; at += 4) view.setUint32(at, parseInt(hex.slice(2 * at, 2 * at + 8), 16), true);
  return view.byteLength === 4 ? ipv4FromNumber(view.getUint32(0)) : ipv6Text(view, 0);
}
