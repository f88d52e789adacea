import { closeSync, openSync, readSync } from 'node:fs';
import { readSysctl } from '../../agent/linux/sysctl.ts';
import type { Conntrack, ConntrackEntry } from '../facts.ts';

/** About two hundred thousand entries. */
const table_bytes_max = 32 * 1_048_576;

export function readConntrack(): Conntrack {
  const count = readSysctl('net/netfilter/nf_conntrack_count');
  if (count === undefined) return { isLoaded: false, count: 0, max: 0, rewritten: [], isWhole: true };
  const { text, isWhole } = readTable();
  return {
    isLoaded: true,
    count: Number(count),
    max: Number(readSysctl('net/netfilter/nf_conntrack_max') ?? 0),
    rewritten: text.split('\n').flatMap((line) => parseEntry(line) ?? []),
    isWhole,
  };
}

function readTable(): Readonly<{ text: string; isWhole: boolean }> {
  let fd: number;
  try {
    fd = openSync('/proc/thread-self/net/nf_conntrack', 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new Error('this kernel does not show its connections in /proc (NF_CONNTRACK_PROCFS)', { cause: error });
  }
  try {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const piece = Buffer.alloc(65_536);
      const read = readSync(fd, piece);
      if (read === 0) return { text: Buffer.concat(pieces).toString(), isWhole: true };
      pieces.push(piece.subarray(0, read));
      bytes += read;
      if (bytes >= table_bytes_max) return { text: Buffer.concat(pieces).toString(), isWhole: false };
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * `ipv4 2 tcp 6 117 SYN_SENT src=A dst=B sport=1 dport=2 … src=B dst=C sport=2 dport=3 …`: what the sender says, and what
 * comes back to whom. undefined for an entry that translates no source (or is none).
 */
export function parseEntry(line: string): ConntrackEntry | undefined {
  const sides = [...line.matchAll(/src=(\S+) dst=(\S+)(?: sport=(\d+) dport=(\d+))?/g)];
  const [original, reply] = sides;
  if (!original || !reply) return undefined;
  const [, src = '', dst = '', sport = '0', dport = '0'] = original;
  const [, , back = '', , backPort = '0'] = reply;
  if (src === back && sport === backPort) return undefined;
  return {
    protocol: line.trim().split(/\s+/)[2] ?? '',
    sent: { address: src, port: Number(sport) },
    seen: { address: back, port: Number(backPort) },
    remote: { address: dst, port: Number(dport) },
  };
}
