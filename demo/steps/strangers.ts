import type { Packet } from '../pcap.ts';
import { addresses } from '../lab.ts';
import type { StrangerSaid } from '../programs/stranger.ts';
import type { Step } from '../report.ts';
import { standingFlow } from '../drips.ts';
import type { Try } from '../visits.ts';
import { holders, machine, type World } from '../world.ts';

const web = { address: addresses.origin, port: 80 };
// Destinations that nobody has visited yet: a port that was just used toward one rests there (TIME_WAIT).
const otherWeb = { address: addresses.otherOrigin, port: addresses.otherPort };
const thirdWeb = { address: addresses.origin, port: addresses.otherPort };
const names = { address: addresses.origin, port: 53 };

/** Who takes a port that is not his is refused by the kernel, or never heard of by the origin. */
export async function strangers(step: Step, world: World): Promise<void> {
  await portsOfFish(step, world);
  await flowOfFish(step, world);
  await portOfProxy(step, world);
  await portOfNobody(step, world);
}

/** What a try came to: what the calls said, what the guard counted, and what the origin saw of it. */
type Outcome = Readonly<{ said: StrangerSaid; dropped: number; arrived: number }>;

async function attempt(world: World, what: Omit<Try, 'code'>): Promise<Outcome> {
  const before = world.counters()['guard_uid'] ?? 0;
  const since = Date.now() * 1_000;
  const said = await world.stranger(what);
  const isFrom = (packet: Packet) =>
    packet.at >= since &&
    packet.source === what.local.address &&
    packet.sourcePort === what.local.port &&
    packet.destination === what.remote.address &&
    packet.destinationPort === what.remote.port;
  const arrived = (await world.capture.packets()).filter(isFrom).length;
  return { said, dropped: (world.counters()['guard_uid'] ?? 0) - before, arrived };
}

/** Placeholders hold every port that fish leases exclusively. */
async function portsOfFish(step: Step, world: World): Promise<void> {
  const leases = await world.leases(holders.fish);
  const udp = leases.find(({ protocol }) => protocol === 'udp');
  const tcp = await world.tcpLease(holders.fish, 'exclusive');
  if (!udp) throw new Error('fish has no udp lease');
  const uid = world.uids.stranger;
  for (const { id, lease, how, remote, call, errno } of [
    { id: 'udp', lease: udp, how: 'udp', remote: names, call: 'bind', errno: 'EADDRINUSE' },
    { id: 'tcp-explicit', lease: tcp, how: 'explicit', remote: web, call: 'bind', errno: 'EADDRINUSE' },
    { id: 'tcp-late', lease: tcp, how: 'late', remote: web, call: 'connect', errno: 'EADDRNOTAVAIL' },
  ] as const) {
    const local = { address: lease.address, port: lease.ports.first + 5 };
    const { said } = await attempt(world, { how, local, remote, uid });
    step.equal(
      `fish-port-${id}`,
      `a stranger's socket on a ${lease.protocol} port that fish leases (${how}) is refused by the kernel`,
      said[call],
      errno,
      [`${call}() on ${local.address}:${local.port}/${lease.protocol}: ${said[call]}`],
    );
  }
}

/** In a shared block the kernel decides per 5-tuple, and the guard per user. */
async function flowOfFish(step: Step, world: World): Promise<void> {
  const flow = await standingFlow(world, await world.tcpLease(holders.fish, 'shared'));
  const local = { address: flow.source, port: flow.sourcePort };
  const who = { uid: world.uids.connectProxy, as: 'connect-proxy' };

  const same = await attempt(world, { how: 'late', local, remote: web, ...who });
  step.equal(
    'tuple-refused',
    'a socket that asks for the very 5-tuple of a connection of fish is refused by the kernel, also that of a co-holder',
    { connect: same.said.connect, got_through: same.said.seenAs !== null },
    { connect: 'EADDRNOTAVAIL', got_through: false },
    [`connect() from ${local.address}:${local.port} to ${web.address}:${web.port}: ${same.said.connect}`],
  );
  const other = await attempt(world, { how: 'late', local, remote: otherWeb, ...who });
  step.equal(
    'other-destination',
    'the co-holder may use that port toward another destination',
    { connect: other.said.connect, seenAs: other.said.seenAs },
    { connect: 'ok', seenAs: `${local.address}:${local.port}` },
    [`connect() to ${otherWeb.address}:${otherWeb.port}: ${other.said.connect}, the origin saw ${other.said.seenAs}`],
  );
  const outsider = await attempt(world, { how: 'late', local, remote: thirdWeb, uid: world.uids.stranger });
  judgeDropped(step, 'outsider', 'a user who holds no lease there may not: the guard drops what it sends', outsider);
}

/** A proxy's ports are held by its own sockets; where it has none just now, the guard is what keeps others out. */
async function portOfProxy(step: Step, world: World): Promise<void> {
  const lease = await world.tcpLease(holders.haproxy, 'exclusive');
  const local = { address: lease.address, port: lease.ports.last - 3 };
  const other = await attempt(world, { how: 'explicit', local, remote: web, uid: world.uids.stranger });
  judgeDropped(step, 'proxy-port', "another user who takes a port of HAProxy's sends nothing that arrives", other);
}

/** The kernel does not know whose the ports of a slice are; the guard does. With UDP its verdict comes back as an errno. */
async function portOfNobody(step: Step, world: World): Promise<void> {
  const { items } = await world.client.slices.list({ machine });
  const [slice] = items;
  if (!slice) throw new Error('the machine has no slice');
  const local = { address: slice.address, port: slice.ports.first + 7 };
  const { said, dropped, arrived } = await attempt(world, {
    how: 'udp',
    local,
    remote: names,
    uid: world.uids.stranger,
  });
  step.fact(
    'unleased',
    'a port of the slice that nobody leases cannot be sent from either',
    said.connect === 'EPERM' && dropped > 0 && arrived === 0,
    {
      expected: { send: 'EPERM', dropped: 'some', arrived: 0 },
      seen: { send: said.connect ?? said.bind, dropped, arrived },
      evidence: [
        `bind() on ${local.address}:${local.port}/udp ${said.bind}, send(): ${said.connect}; counter guard_uid +${dropped}`,
      ],
    },
  );
}

function judgeDropped(step: Step, id: string, claim: string, { said, dropped, arrived }: Outcome): void {
  step.fact(id, claim, said.connect === 'no answer' && dropped > 0 && arrived === 0, {
    expected: { connect: 'no answer', dropped: 'some', arrived: 0 },
    seen: { connect: said.connect ?? said.bind, dropped, arrived },
    evidence: [
      `bind() ${said.bind}, connect(): ${said.connect}; counter guard_uid +${dropped}; packets at the origin: ${arrived}`,
    ],
  });
}
