import { Capture } from '../capture.ts';
import { inNamespace, ipBatch } from '../commands.ts';
import type { Flow } from '../flows.ts';
import { addresses, links, type Lab } from '../lab.ts';
import { until } from '../processes.ts';
import type { Step } from '../report.ts';
import { fetchMany, startOrigin, stranger } from '../visits.ts';

const address = '198.51.100.10';
const slice = { first: 9_000, last: 9_009 };
const size = slice.last - slice.first + 1;
const inSlice = (port: number) => port >= slice.first && port <= slice.last;

/**
 * What happens without Fishery: the kernel's own source NAT and a socket share a slice of ten ports. NAT looks into its
 * connection table, the socket into the socket table, neither into the other's. Nothing of Fishery is in this lab.
 */
export async function kernelNat(step: Step, lab: Lab, folder: string): Promise<void> {
  inNamespace(lab.host, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  ipBatch(lab.host, `addr add ${address}/32 dev lo`);
  inNamespace(
    lab.host,
    'nft',
    `add table ip nat { chain out { type nat hook postrouting priority srcnat; oifname ${links.hostToOrigin} ip saddr ${addresses.client} meta l4proto tcp snat to ${address}:${slice.first}-${slice.last}; }; }`,
  );
  const origin = await startOrigin(folder, lab.origin);
  const capture = await Capture.start(folder, lab.origin, links.origin, origin.running);
  try {
    const from = 'nat-client';
    const many = fetchMany({ namespace: lab.client, from, path: '/slow?ms=4000' }, size);
    await until('NAT to have given out the whole slice', async () =>
      (await capture.flows()).filter(({ senders }) => senders.includes(from)).length === size ? true : undefined,
    );
    const said = await stranger({
      how: 'explicit',
      local: { address, port: slice.first },
      remote: { address: addresses.origin, port: 80 },
      namespace: lab.host,
    });
    await many;
    const flows = await capture.flows();
    const of = (sender: string) => flows.filter(({ senders }) => senders.includes(sender));
    const natPorts = of(from)
      .map(({ sourcePort }) => sourcePort)
      .toSorted((a, b) => a - b);
    const wanted = Array.from({ length: size }, (_, i) => slice.first + i);
    step.equal(
      'nat-uses-slice',
      `NAT gives the client's ${size} connections the slice's ${size} ports`,
      natPorts,
      wanted,
    );
    judgeSocket(step, said.localPort, said.seenAs, of('stranger')[0]);
  } finally {
    await capture.stop();
    await origin.running.stop();
  }
}

function judgeSocket(step: Step, believed: number | null, seenAs: string | null, flow: Flow | undefined): void {
  step.equal(
    'socket-believes',
    'a socket that binds a port which NAT is using toward the same destination gets no error at all',
    { localPort: believed, answered: seenAs !== null },
    { localPort: slice.first, answered: true },
    [`getsockname() says ${address}:${believed}`],
  );
  const onTheWire = flow?.sourcePort ?? null;
  step.fact(
    'origin-sees-another',
    'but its packets leave from another port, outside of the slice: one that may be leased to another machine',
    onTheWire !== null && onTheWire !== believed && !inSlice(onTheWire) && seenAs === `${address}:${onTheWire}`,
    {
      expected: `a source port that is not ${slice.first}-${slice.last}`,
      seen: { capture: onTheWire, origin: seenAs },
      evidence: [`the origin answered "you are ${seenAs}"`, `the capture at the origin shows ${address}:${onTheWire}`],
    },
  );
}
