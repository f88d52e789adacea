import { collisions, tupleOf, type Flow } from '../flows.ts';
import { addresses } from '../lab.ts';
import { some, type Step } from '../report.ts';
import { fetchMany, fetchOne } from '../visits.ts';
import { fronts, holderOfSender, holders, isIn, type World } from '../world.ts';

const connections = 32;
/** Of the CONNECT proxy to the other destination: so many that some ports are surely fish's too, toward the first one. */
const connectionsElsewhere = 96;

/** Fish, HAProxy and the CONNECT proxy send from one address at the same time; fish and the latter from the same ports. */
export async function sideBySide(step: Step, world: World): Promise<void> {
  const { lab, origin } = world;
  const namespace = lab.client;
  const [fish, connectProxy, haproxy] = [
    await world.tcpLease(holders.fish, 'shared'),
    await world.tcpLease(holders.connectProxy, 'shared'),
    await world.tcpLease(holders.haproxy, 'exclusive'),
  ];
  const place = ({ address, ports }: typeof fish) => `${address}:${ports.first}-${ports.last}`;
  step.equal(
    'same-block',
    'fish and the CONNECT proxy hold leases on one shared block, HAProxy holds one of its own on the same address',
    { shared: place(connectProxy), address: haproxy.address },
    { shared: place(fish), address: fish.address },
    [
      `fish ${fish.id} and connect-proxy ${connectProxy.id} on ${place(fish)}, haproxy ${haproxy.id} on ${place(haproxy)}`,
    ],
  );

  const began = Date.now() * 1_000;
  const routes = [
    { namespace, from: 'client' },
    { namespace, from: 'haproxy', at: fronts.haproxy },
    { namespace, from: 'connect-proxy', proxy: fronts.connectProxy },
  ];
  const elsewhere = { namespace, from: 'connect-proxy', proxy: fronts.connectProxy, at: addresses.otherOrigin };
  const many = [
    ...routes.map((route) => ({ ...route, count: connections })),
    { ...elsewhere, count: connectionsElsewhere },
  ];
  const path = '/slow?ms=3000';
  const [files, answers] = await Promise.all([
    Promise.all(routes.map((route) => fetchOne({ ...route, path: '/file', limitRate: '15M' }))),
    Promise.all(many.map((route) => fetchMany({ ...route, path }, route.count))),
  ]);
  step.equal(
    'files-whole',
    'all three fetch the file of 50 MB at the same time, byte for byte',
    Object.fromEntries(files.map(({ sha256, error }, i) => [routes[i]?.from, error || sha256])),
    Object.fromEntries(routes.map(({ from }) => [from, origin.sha256])),
  );
  step.equal(
    'many-answered',
    `meanwhile each opens ${connections} more connections, the CONNECT proxy ${connectionsElsewhere} to another destination`,
    answers.map(({ code, stdout }) => ({ code, answers: stdout.toString().trim().split('\n').length })),
    many.map(({ count }) => ({ code: 0, answers: count })),
  );
  judge(
    step,
    (await world.capture.flows()).filter(({ first }) => first >= began),
    { fish, connectProxy, haproxy },
  );
}

function judge(step: Step, flows: readonly Flow[], leases: Readonly<Record<string, Parameters<typeof isIn>[0]>>): void {
  const own = (flow: Flow) =>
    Object.values(leases).some(
      (lease) => isIn(lease, flow) && flow.senders.every((who) => holderOfSender[who] === lease.holder),
    );
  // Fish has a second block, of its own, which is no matter here.
  const strays = flows.filter((flow) => !flow.senders.includes('client') && !own(flow));
  step.equal('own-leases', 'each proxy sent from its own lease only', some(strays.map(tupleOf)), []);
  const found = collisions(flows);
  step.fact(
    'no-collision',
    'no two of them ever had one 5-tuple, by the capture at the origin',
    flows.length > 0 && found.length === 0,
    {
      expected: 'none',
      seen: found.length > 0 ? some(found) : 'none',
      evidence: [`${flows.length} conversations seen, on ${new Set(flows.map(tupleOf)).size} 5-tuples`],
    },
  );

  const shared = leases['fish'];
  const inBlock = flows.filter((flow) => shared !== undefined && isIn(shared, flow));
  const toward = (destination: string, who: string) =>
    inBlock.filter((flow) => flow.destination === destination && flow.senders.includes(who));
  const [fish, proxy, elsewhere] = [
    toward(addresses.origin, 'client'),
    toward(addresses.origin, 'connect-proxy'),
    toward(addresses.otherOrigin, 'connect-proxy'),
  ];
  const busiest = mostAtOnce([...fish, ...proxy]);
  const both = ['client', 'connect-proxy'].every((who) => busiest.some(({ senders }) => senders.includes(who)));
  const ports = new Set(busiest.map(({ sourcePort }) => sourcePort));
  step.fact(
    'shared-at-once',
    'in the shared block both stood toward one destination at the same time, each on ports of its own',
    both && ports.size === busiest.length,
    {
      expected: 'both, and as many ports as connections',
      seen: { connections: busiest.length, ports: ports.size, both },
      evidence: [`${busiest.length} connections at one instant, on ${ports.size} ports`],
    },
  );
  const twice = fish.filter((a) =>
    elsewhere.some((b) => a.sourcePort === b.sourcePort && a.first < b.last && b.first < a.last),
  );
  step.fact(
    'port-used-twice',
    'and one port served both of them at the same time, toward different destinations',
    twice.length > 0,
    {
      expected: 'at least one such port',
      seen: twice.length,
      evidence: [
        `${twice.length} ports, ${some(
          twice.map(({ sourcePort }) => `${sourcePort}`),
          8,
        ).join(' ')}`,
      ],
    },
  );
}

/** The flows that stood at the instant at which most did. */
function mostAtOnce(flows: readonly Flow[]): readonly Flow[] {
  const standing = flows.map(({ first }) => flows.filter((flow) => flow.first <= first && first <= flow.last));
  return standing.reduce((most, now) => (now.length > most.length ? now : most), []);
}
