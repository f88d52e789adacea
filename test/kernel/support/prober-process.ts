/**
 * Somebody who wants ports that are leased, and tries them one after the other without a pause: bind(), and connect() with the
 * port taken late. Argument: JSON of the blocks. Says `ready` after the first round; on SIGTERM it prints what it got, and ends.
 */
import { addressToBytes, ipv4ToNumber, parseAddress } from '../../../src/net/address.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { openBound, openConnected4, openPing } from '../../../src/sys/placeholders.ts';

export type ProbedBlock = Readonly<{ protocol: 'tcp' | 'udp' | 'icmp'; address: string; first: number; last: number }>;
/** `got`: what should have been refused. `refusals`: how often each errno came. */
export type ProbeReport = Readonly<{
  attempts: number;
  rounds: number;
  got: readonly string[];
  refusals: Readonly<Record<string, number>>;
}>;

const blocks = JSON.parse(process.argv[2] ?? '[]') as readonly ProbedBlock[];
const got: string[] = [];
const got_max = 100;
const refusals: Record<string, number> = {};
let attempts = 0;
let rounds = 0;
const over = new AbortController();

function note(fd: number, what: string): void {
  attempts++;
  if (fd >= 0) {
    closeFd(fd);
    if (got.length < got_max) got.push(`${what} at ${new Date().toISOString()}`);
    return;
  }
  const errno = errnoName(fd);
  refusals[errno] = (refusals[errno] ?? 0) + 1;
}

function probe({ protocol, address: text, first, last }: ProbedBlock): void {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  const bytes = addressToBytes(parsed.value);
  for (let port = first; port <= last; port++) {
    if (protocol === 'icmp') note(openPing(bytes, port), `identifier ${port}`);
    else note(openBound(bytes, port, protocol, 0), `${protocol} bind to ${text} port ${port}`);
    if (protocol !== 'tcp' || bytes.length !== 4) continue;
    const fd = openConnected4(ipv4ToNumber(parsed.value), port, 0xcb007101, 80, 'late', 0);
    note(fd, `connect from ${text} port ${port}`);
  }
}

process.once('SIGTERM', () => over.abort());
while (!over.signal.aborted) {
  blocks.forEach(probe);
  if (++rounds === 1) process.stdout.write('ready\n');
  // For the signal.
  await new Promise((resolve) => setImmediate(resolve));
}
process.stdout.write(JSON.stringify({ attempts, rounds, got, refusals } satisfies ProbeReport));
