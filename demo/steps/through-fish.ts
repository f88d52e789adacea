import { addresses } from '../lab.ts';
import type { Packet } from '../pcap.ts';
import { finish } from '../processes.ts';
import { some, type Step } from '../report.ts';
import { fetchOne } from '../visits.ts';
import { holders, isIn, machine, type World } from '../world.ts';

/** A client whose own address nobody knows reaches the origin through fish: TCP, UDP and echo. */
export async function throughFish(step: Step, world: World): Promise<void> {
  const { lab, origin } = world;
  const here = { namespace: lab.client, from: 'client' };
  const leases = await world.leases(holders.fish);
  step.note(
    `fish on ${machine} leases ${leases.map(({ address, protocol, ports, mode }) => `${address}:${ports.first}-${ports.last}/${protocol} (${mode})`).join(', ')}`,
  );

  const file = await fetchOne({ ...here, path: '/file' });
  step.equal(
    'file-whole',
    'the client fetches a file of 50 MB through fish, byte for byte',
    { bytes: file.bytes, sha256: file.sha256 },
    { bytes: origin.bytes, sha256: origin.sha256 },
    [`sha256 ${file.sha256} on both sides`],
  );

  const peer = await fetchOne({ ...here, path: '/peer' });
  const [address = '', port = ''] = peer.text.trim().split(':');
  const source = { source: address, sourcePort: Number(port), protocol: 'tcp' as const };
  step.fact(
    'curl',
    'curl works, and the origin sees a leased source',
    leases.some((lease) => isIn(lease, source)),
    {
      expected: 'an address and port that fish leases',
      seen: peer.text.trim() || peer.error,
      evidence: [`the origin answered "you are ${peer.text.trim()}", the client is ${addresses.client}`],
    },
  );

  await ping(step, world);
  await resolve(step, world);

  const packets = (await world.capture.packets()).filter(({ destination }) => destination.startsWith('203.0.113.'));
  const sourceOf = ({ protocol, source: from, sourcePort }: Packet) => `${protocol} ${from}:${sourcePort}`;
  const foreign = packets.filter((packet) => !leases.some((lease) => isIn(lease, packet)));
  step.fact(
    'only-leased',
    'every packet that reached the origin had a leased source',
    packets.length > 0 && foreign.length === 0,
    {
      expected: 'no other source',
      seen: { packets: packets.length, foreign: some([...new Set(foreign.map(sourceOf))]) },
      evidence: [
        `${packets.length} packets from ${new Set(packets.map(sourceOf)).size} sources captured at the origin`,
      ],
    },
  );
}

async function ping(step: Step, { lab }: World): Promise<void> {
  // The pattern is how an echo says whose it is.
  const pattern = Buffer.from('from=client;').toString('hex');
  const options = ['-c', '3', '-i', '0.2', '-W', '2', '-p', pattern, addresses.origin];
  const { stdout } = await finish({ name: 'ping', namespace: lab.client, command: ['ping', ...options] });
  const [summary = 'no answer'] = /.*packets transmitted.*/.exec(stdout.toString()) ?? [];
  step.equal('ping', 'ping works', /, 3 received,/.test(summary), true, [summary]);
}

async function resolve(step: Step, { lab }: World): Promise<void> {
  const ask = async (type: string) => {
    const command = ['dig', '+short', '+time=2', '+tries=2', `@${addresses.origin}`, 'client.demo', type];
    return (await finish({ name: 'dig', namespace: lab.client, command })).stdout.toString().trim();
  };
  const [answer, peer] = [await ask('A'), (await ask('TXT')).replaceAll('"', '')];
  step.equal(
    'dig',
    'dig resolves a name over UDP',
    { answer, fromPool: /^198\.51\.100\.10:\d+$/.test(peer) },
    { answer: '203.0.113.53', fromPool: true },
    [`client.demo is ${answer}; the name server saw ${peer}`],
  );
}
