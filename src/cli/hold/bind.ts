import type { z } from 'zod';
import { addressToBytes, parseAddress } from '../../net/address.ts';
import { portCount } from '../../net/ports.ts';
import type { ClaimOfOne, Lease } from '../../wire/leases.ts';

/** Bound sockets that one program is handed. */
export const descriptors_max = 1_024;

export type BoundLeases = Readonly<{
  /** One for each socket, in the order of leases and ports: `lease-42-9000`. */
  names: readonly string[];
  descriptors: readonly number[];
  close: () => void;
}>;

/** Why these leases could not be handed over as sockets; undefined when they can. */
export function whyNotBound(claims: readonly z.input<typeof ClaimOfOne>[]): string | undefined {
  if (claims.some(({ mode = 'exclusive' }) => mode !== 'exclusive'))
    return '--bind: a bound socket takes its port from everybody, so it is for exclusive leases only';
  if (claims.some(({ protocol }) => protocol === 'icmp')) return '--bind: icmp has no ports to bind';
  const ports = claims.reduce((sum, claim) => sum + (claim.ports ?? 1), 0);
  return ports > descriptors_max
    ? `--bind: at most ${descriptors_max} ports, each of them is a descriptor; asked for are ${ports}`
    : undefined;
}

/**
 * A socket for each port of the leases, bound and nothing else. They are this process's own in the eyes of the guard: its
 * user's and its cgroup's, whatever user the program becomes. The error says who could not be bound, and none is open then.
 */
export async function bindLeases(leases: readonly Lease[]): Promise<BoundLeases | string> {
  const { closeFd } = await import('../../sys/descriptors.ts');
  const { bindSocket } = await import('../../sys/bound-socket.ts');
  const { errnoName } = await import('../../sys/errno.ts');
  const count = leases.reduce((sum, { ports }) => sum + portCount(ports), 0);
  if (count > descriptors_max)
    return `${count} ports were granted, and at most ${descriptors_max} sockets are handed over`;
  const names: string[] = [];
  const descriptors: number[] = [];
  const close = () => {
    for (const fd of descriptors.splice(0)) closeFd(fd);
  };
  for (const { id, address, protocol, ports } of leases) {
    const parsed = parseAddress(address);
    if (!parsed.ok || protocol === 'icmp') throw new Error(`${id} has no ports to bind`);
    const bytes = addressToBytes(parsed.value);
    for (let port = ports.first; port <= ports.last; port++) {
      const fd = bindSocket(bytes, port, protocol);
      if (fd < 0) {
        close();
        return `${id}: ${protocol} port ${port} of ${address} cannot be bound: ${errnoName(-fd)}`;
      }
      descriptors.push(fd);
      names.push(`${id}-${port}`);
    }
  }
  return { names, descriptors, close };
}
