import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { netnsCookie } from '../../sys/netns.ts';

/**
 * Which host this is, for records that are about no other: the kernel's name for this boot, and the network namespace of this
 * process. Rules, addresses, the guard and sockets are a network namespace's, so another one of the same kernel (another
 * container) is another host; a new agent in the same one is on the same host. By its cookie, which no other namespace has until the
 * machine is started anew, or where the kernel knows none (before Linux 5.14) by its inode, which may be used again.
 */
export function thisHost(): string {
  return `${bootId()} net:${netnsCookie() ?? `[${statSync('/proc/self/ns/net').ino}]`}`;
}

/** The boot of a name that `thisHost` gave. */
export const bootOf = (host: string): string => host.split(' ', 1)[0] ?? '';

/**
 * What the server tells hosts apart by, who say that they are the same machine (`boot_id`): as long as one of them is answered, the
 * others are not. A UUID.
 */
export function speakerOf(host: string): string {
  const hex = createHash('sha256').update(host).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
