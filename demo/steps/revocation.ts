import { setTimeout as sleep } from 'node:timers/promises';
import { FisheryError } from '../../src/sdk/index.ts';
import { SockDiag } from '../../src/sys/sock-diag.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { standingFlow } from '../drips.ts';
import { tupleOf } from '../flows.ts';
import { until } from '../processes.ts';
import type { Step } from '../report.ts';
import { cooldown_s, holders, machine, type World } from '../world.ts';

/** An operator takes a lease away while it is in use. */
export async function revocation(step: Step, world: World): Promise<void> {
  const { client } = world;
  const lease = await world.tcpLease(holders.fish, 'exclusive');
  const where = `${lease.address}:${lease.ports.first}-${lease.ports.last}/tcp`;
  const flow = await standingFlow(world, lease);
  const before = socketsOn(lease);
  step.equal(
    'placeholders',
    `fish uses ${lease.id} (${where}), and placeholders hold all its ports`,
    before.length,
    lease.ports.last - lease.ports.first + 1,
    [`sock_diag: ${summary(before)}`, `in use: ${tupleOf(flow)}`],
  );

  const revokedAt = Date.now();
  await client.leases.revoke(lease.id, { reason: 'shown in the demo' });
  const cooling = await until(`${lease.id} to be proven unused`, async () => {
    const now = await client.leases.get(lease.id);
    return now.state === 'cooling' ? now : undefined;
  });
  const tookMs = Date.now() - revokedAt;
  step.equal('cooling', 'it is revoked, and cooling once the agent has proven it unused', cooling.ending, 'revoked', [
    `cooling ${tookMs} ms after the revocation, until ${cooling.reusable_at}`,
  ]);
  const after = socketsOn(lease);
  step.equal('placeholders-gone', 'its placeholders are gone', after.length, 0, [`sock_diag: ${summary(after)}`]);
  await refusedToOthers(step, world, lease);

  await sleep(1_000);
  const same = (await world.capture.flows()).find(
    (other) => tupleOf(other) === tupleOf(flow) && other.first === flow.first,
  );
  const lastMs = Math.round((same?.lastOut ?? 0) / 1_000 - revokedAt);
  step.fact(
    'flow-ended',
    'its connection has ended: nothing more comes from that 5-tuple',
    same !== undefined && lastMs < tookMs + 50,
    {
      expected: 'no packet once the ports are cooling',
      seen: `last packet ${lastMs} ms after the revocation`,
      evidence: [
        `last packet from ${flow.source}:${flow.sourcePort} ${lastMs} ms after the revocation`,
        `the origin still tried for ${Math.round(((same?.last ?? 0) - (same?.lastOut ?? 0)) / 1_000)} ms, and nobody answered`,
      ],
    },
  );
}

const socketsOn = ({ address, ports }: Lease) => {
  const diag = new SockDiag();
  try {
    return diag.sockets({ protocol: 'tcp', family: 4, ports, address });
  } finally {
    diag.close();
  }
};

const summary = (sockets: ReturnType<typeof socketsOn>): string =>
  sockets.length === 0
    ? 'no socket on these ports'
    : [...Map.groupBy(sockets, ({ state }) => state)].map(([state, all]) => `${all.length} ${state}`).join(', ');

/** The ports rest: the table says so, and a grant of this very block is refused until they have rested. */
async function refusedToOthers(step: Step, { client }: World, lease: Lease): Promise<void> {
  const { extents } = await client.slices.extents(lease.slice);
  const extent = extents.find(({ protocol, ports }) => protocol === 'tcp' && ports.first === lease.ports.first);
  step.equal('extent', 'the slice shows its ports as cooling', extent?.state, 'cooling', [JSON.stringify(extent)]);

  const session = await client.sessions.open({ machine, holder: holders.haproxy, ttl_s: 30 });
  const block = { address: lease.address, first_port: lease.ports.first };
  const ports = lease.ports.last - lease.ports.first + 1;
  const ask = () => client.leases.grant({ session: session.id, claims: [{ protocol: 'tcp', ports, at: block }] });
  try {
    const refused = await ask().then(
      () => 'granted',
      (error: unknown) => (error instanceof FisheryError ? (error.problem ?? error.message) : String(error)),
    );
    step.equal(
      'refused',
      'another holder cannot have them yet',
      typeof refused === 'string' ? refused : refused.code,
      'block_taken',
      [JSON.stringify(refused)],
    );
    const granted = await until(
      'the ports to have rested',
      () => ask().catch(() => undefined),
      (cooldown_s + 5) * 1_000,
    );
    const rest =
      Date.parse(granted.leases[0]?.granted_at ?? '') - Date.parse((await client.leases.get(lease.id)).ending_at ?? '');
    step.fact('granted-later', `it can after the rest of ${cooldown_s} s`, rest >= cooldown_s * 1_000, {
      expected: `not before ${cooldown_s} s`,
      seen: `${rest} ms after the revocation`,
      evidence: [`granted ${(rest / 1_000).toFixed(1)} s after the revocation`],
    });
  } finally {
    await client.sessions.end(session.id);
  }
}
