import fc from 'fast-check';
import type { Protocol } from '../../src/net/protocol.ts';
import { parseSelector } from '../../src/net/selector.ts';
import type { Claim, Command, Placement } from '../../src/leases/commands.ts';
import type { Terms } from '../../src/leases/lease-service.ts';
import {
  formatToken,
  type Binding,
  type CarveOut,
  type HolderLimits,
  type Lease,
  type Mode,
  type RouterDemand,
  type Session,
  type Slice,
  type Want,
} from '../../src/leases/model.ts';
import type { Tables } from './memory-store.ts';
import { address, audited, keyed, must, nobody, prefix, second } from './world.ts';

/**
 * Random things that can happen to a small table: three machines (one without an agent) and one that comes and goes, two pools, one of them with routers to
 * wait for, slices of 16 ports.
 * Steps name what they are about by a number, taken modulo what there is when they run, so that any list of them is a
 * story and shrinks to a shorter one.
 */
export type Step =
  | Readonly<{ do: 'commands'; commands: readonly Ask[] }>
  | Readonly<{ do: 'pass'; seconds: number }>
  | Readonly<{ do: 'prune'; keptSeconds: number; rowsMax: number }>
  | Readonly<{ do: 'restart' }>;

/** A command in the making. */
export type Ask = Readonly<{
  ask: Command['kind'];
  pick: number;
  other: number;
  flag: boolean;
  /** Tried only. */
  dryRun: boolean;
  claims: readonly RawClaim[];
  placement: Placement;
  /** Now and then a command comes under a key, of which there are few: then it may be one that came before. */
  key: number | null;
}>;
type RawClaim = Readonly<{
  protocol: Protocol;
  ports: number | null;
  mode: Mode;
  binding: Binding | null;
  at: number | null;
  count: number;
  sticky: boolean;
  select: string | null;
}>;

const machines = ['edge-1', 'edge-2', 'bare'] as const;
const spare = 'edge-3';
const routers = ['north', 'south'] as const;
const holders = ['web', 'mail', 'fish'] as const;

export const cooldownS = { tcp: 20, udp: 10, icmp: 0 } as const;
const cooldownUs = { tcp: cooldownS.tcp * second, udp: cooldownS.udp * second, icmp: 0 };
const small = { slicePorts: 16, usablePorts: { first: 24, last: 83 }, sharedBlockPorts: 4, cooldownUs, labels: {} };
const waited: RouterDemand = { ids: null, select: null, policy: 'all' };

const carvings: readonly (readonly CarveOut[])[] = [
  [],
  [],
  [{ prefix: prefix('198.51.100.1/32'), ports: null }],
  [{ prefix: prefix('198.51.100.0/31'), ports: { first: 60, last: 67 } }],
];

const quotas: readonly HolderLimits[] = [
  { portsMin: { tcp: 4, udp: 0, icmp: 0 }, portsMax: { tcp: null, udp: null, icmp: null }, sessionsMax: null },
  { portsMin: { tcp: 0, udp: 8, icmp: 1 }, portsMax: { tcp: 8, udp: 12, icmp: null }, sessionsMax: 3 },
  { portsMin: { tcp: 0, udp: 0, icmp: 0 }, portsMax: { tcp: 4, udp: 1, icmp: 2 }, sessionsMax: 1 },
];

const putHolder = (machine: string, name: string, uid: number, cgroup?: string): Command & { kind: 'putHolder' } =>
  name === 'fish'
    ? { kind: 'putHolder', machine, name, holderKind: 'fish', uid: null }
    : { kind: 'putHolder', machine, name, holderKind: 'proxy', ...(cgroup === undefined ? { uid } : { cgroup }) };

/** Two that are one below the other, and two that are not. */
const cgroups = ['a.slice', 'a.slice/web.service', 'b.slice', 'a.slice2'];

const newMachine = (id: string): Command => ({
  kind: 'createMachine',
  id,
  labels: {},
  enforcement: id === 'bare' ? 'none' : 'agent',
  fenceUs: 100 * second,
  mark: null,
  nextHops: [],
});

/** What an operator says that a machine is to be: mostly that it is active. */
const intents = [
  ...Array<'active'>(10).fill('active'),
  ...(['cordoned', 'cordoned', 'draining', 'lost'] as const),
] as const;

/** What a machine may be said to want. */
const wanted: readonly (readonly Want[])[] = [
  [{ pool: 'v4', select: null, family: null, allocator: 'server', slices: 2 }],
  [
    { pool: null, select: 'kind', family: 6, allocator: 'machine', slices: 2 },
    { pool: null, select: 'kind', family: 6, allocator: 'server', slices: 3 },
    { pool: 'v4', select: null, family: 4, allocator: 'server', slices: 1 },
  ],
  [{ pool: null, select: 'kind=none', family: null, allocator: 'server', slices: 1 }],
  [],
];

/** Mostly nothing, which is enough as long as nothing was reclaimed; or just enough; or more than the log has. */
function appliedBy(tables: Tables, machine: string, other: number, flag: boolean): number {
  if (flag) return 0;
  return other % 7 === 0 ? 1_000_000 : (tables.machines.get(machine)?.agent?.mustApply ?? 0);
}

/** What is there before the story begins. The ids of slices and sessions are the revisions of their making. */
export const prologue: readonly Command[] = [
  {
    kind: 'createPool',
    id: 'v4',
    prefixes: [prefix('198.51.100.0/31')],
    ...small,
    labels: { kind: 'four' },
    routers: nobody,
  },
  {
    ...{ kind: 'createPool', id: 'v6', prefixes: [prefix('2001:db8::/48')], ...small },
    ...{ slicePorts: 8, sharedBlockPorts: 2, labels: { kind: 'six' }, routers: waited },
  },
  { kind: 'putRouter', id: 'north', labels: {} },
  ...machines.flatMap((machine): Command[] => [
    newMachine(machine),
    ...holders.map((name, index) => putHolder(machine, name, 900 + index)),
    { kind: 'assignSlices', machine, pool: 'v4', count: 1, family: null, at: null },
    ...holders.map((holder): Command => ({ kind: 'openSession', scope: {}, machine, holder, ttlUs: 300 * second })),
  ]),
];

/** What may be said of any claim. The pools of the story are labelled `kind=four` and `kind=six`. */
const manner = {
  count: fc.constantFrom(1, 1, 1, 1, 2, 3),
  sticky: fc.nat({ max: 3 }).map((one) => one === 3),
  select: fc.constantFrom(null, null, null, null, 'kind=four', 'kind!=four', 'kind=none'),
};
const ports = fc.constantFrom(null, 1, 1, 2, 3, 4, 4, 7, 8);
const place = fc.option(fc.nat({ max: 255 }), { freq: 3 });
const rawClaim: fc.Arbitrary<RawClaim> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      protocol: fc.constantFrom<Protocol>('tcp', 'tcp', 'udp', 'icmp'),
      ports,
      mode: fc.constant<Mode>('exclusive'),
      binding: fc.constant(null),
      at: place,
      ...manner,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      protocol: fc.constant<Protocol>('tcp'),
      ports,
      mode: fc.constant<Mode>('shared'),
      binding: fc.constantFrom<Binding | null>(null, null, 'late', 'explicit'),
      at: place,
      ...manner,
    }),
  },
  // Now and then one that cannot be.
  {
    weight: 1,
    arbitrary: fc.record({
      protocol: fc.constantFrom<Protocol>('tcp', 'udp', 'icmp'),
      ports: fc.constantFrom(16, 17, 1),
      mode: fc.constantFrom<Mode>('exclusive', 'shared'),
      binding: fc.constantFrom<Binding | null>(null, 'late'),
      at: place,
      ...manner,
    }),
  },
);

const kinds: readonly Command['kind'][] = [
  ...Array<'grantLeases'>(16).fill('grantLeases'),
  ...Array<'explainGrant'>(2).fill('explainGrant'),
  ...Array<'report'>(20).fill('report'),
  ...Array<'reportGranted'>(8).fill('reportGranted'),
  ...Array<'releaseLease'>(6).fill('releaseLease'),
  ...Array<'sweep'>(4).fill('sweep'),
  ...Array<'keepSession'>(4).fill('keepSession'),
  ...(['assignSlices', 'assignSlices', 'drainSlice', 'unblock', 'unblock', 'openSession', 'openSession'] as const),
  ...([
    'endSession',
    'revokeLease',
    'revokeLease',
    'updateMachine',
    'noteDenials',
    'agentKeepalive',
    'agentKeepalive',
    'putHolder',
    ...Array<'deleteHolder'>(3).fill('deleteHolder'),
    'drainSlice',
    'moveSlice',
    'moveSlice',
    'handOverSlice',
    'reclaimSlice',
    'reclaimSlice',
    'revokeLeases',
    'updatePool',
    'updatePool',
    'deletePool',
    'createPool',
    'putRouter',
    'deleteRouter',
    'updateMachine',
    'createMachine',
    'deleteMachine',
    ...Array<'routerApplied'>(4).fill('routerApplied'),
    'confirmEpoch',
    'confirmEpoch',
    'confirmEpoch',
    'weighSeen',
  ] as const),
  ...(['createToken', 'updateToken', 'rotateToken', 'revokeToken', 'noteTokenUses'] as const),
];
const ask: fc.Arbitrary<Ask> = fc.record({
  ask: fc.constantFrom(...kinds),
  pick: fc.nat(),
  other: fc.nat({ max: 63 }),
  flag: fc.boolean(),
  dryRun: fc.nat({ max: 9 }).map((one) => one === 9),
  claims: fc.array(rawClaim, { minLength: 1, maxLength: 4 }),
  placement: fc.constantFrom<Placement>('any', 'any', 'any', 'same_address', 'spread'),
  key: fc.nat({ max: 63 }).map((one) => (one < 12 ? one : null)),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: ask.map((one): Step => ({ do: 'commands', commands: [one] })) },
  {
    weight: 3,
    arbitrary: fc.array(ask, { minLength: 2, maxLength: 6 }).map((commands): Step => ({ do: 'commands', commands })),
  },
  { weight: 4, arbitrary: fc.constantFrom(1, 5, 10, 20, 60).map((seconds): Step => ({ do: 'pass', seconds })) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('prune' as const),
      keptSeconds: fc.constantFrom(0, 30, 120),
      rowsMax: fc.constantFrom(1, 3, 100),
    }),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'restart' }) },
);

/** Long stories: the short ones hardly get anywhere. */
export const steps = (max: number): fc.Arbitrary<Step[]> =>
  fc.array(step, { minLength: Math.floor(max / 8), maxLength: max, size: 'max' });

/** Hashes of secrets never repeat, whatever the story. */
let secrets = 0;
const secret = (): { hash: string } => ({ hash: `hash-${++secrets}` });

const nobodyKnown = {
  ...{ token: null, tokenName: null, role: null, requestId: 'q', remoteAddress: null },
  ...{ operation: 'listPools', code: 'unauthenticated' },
} as const;

/** What the asks of a step come to, given what there is. */
export const ordersOf = (
  asks: readonly Ask[],
  tables: Tables,
): readonly Readonly<{ command: Command; terms: Terms }>[] =>
  asks.flatMap((ask) => {
    const command = commandOf(ask, tables);
    if (!command) return [];
    // Commands of one kind under one key are one request, whatever they say: the core goes by the fingerprint.
    const { key } = ask.key === null ? audited('').provenance : keyed(`k${ask.key}`, command.kind).provenance;
    const audit = ask.pick % 6 === 0 ? audited(command.kind).provenance.audit : null;
    const terms = key === null && audit === null ? {} : { provenance: { requestId: 'r', key, audit } };
    return [{ command, terms: { dryRun: ask.dryRun, ...terms } }];
  });

/** The command that an ask comes to, given what there is; undefined when there is nothing that it could be about. */
function commandOf({ ask: kind, pick, other, flag, claims, placement }: Ask, tables: Tables): Command | undefined {
  const one = <Row>(rows: Iterable<Row>): Row | undefined => {
    const list = [...rows];
    return list[pick % Math.max(1, list.length)];
  };
  // Now and then one that comes and goes.
  const machine = pick % 8 === 7 ? spare : (machines[pick % 3] ?? 'bare');
  const slice = one(tables.slices.values());
  const lease = one([...tables.leases.values()].filter((row) => row.endedAt === null || pick % 7 === 0));
  const session = one([...tables.sessions.values()].filter((row) => row.state === 'live' || pick % 7 === 0));
  const token = one(tables.accessTokens.values());
  const expiry = flag ? {} : { expiry: other % 3 === 0 ? null : { ttlUs: (1 + (other % 30)) * second } };
  switch (kind) {
    case 'assignSlices': {
      const at = flag ? { address: address(`198.51.100.${other % 2}`), firstPort: 32 + 16 * (other % 3) } : null;
      const pool = flag || other % 3 > 0 ? 'v4' : 'v6';
      // Now and then to be granted from by the machine, which one of them cannot do.
      const allocator = pick % 5 === 4 ? 'machine' : 'server';
      return { kind, machine, pool, count: at ? 1 : 1 + (other % 3), family: null, at, allocator };
    }
    case 'drainSlice':
      return { kind, id: slice?.id ?? 1, ...leavingTerms(other) };
    case 'moveSlice':
      return {
        ...{ kind, id: slice?.id ?? 1, machine: machines[other % 3] ?? 'bare' },
        ...(flag ? { allocator: pick % 3 === 2 ? 'machine' : 'server' } : {}),
        ...leavingTerms(other >> 2),
      };
    case 'handOverSlice':
      return { kind, id: slice?.id ?? 1, allocator: flag ? 'server' : 'machine', ...leavingTerms(other) };
    case 'reclaimSlice':
      return { kind, id: slice?.id ?? 1 };
    // Of a table that is a broker's, which has no slices of its own making.
    case 'adoptSlice':
    case 'forgoSlice':
      return undefined;
    case 'revokeLeases': {
      const nothing = {
        machine: null,
        holder: null,
        pool: null,
        select: null,
        prefix: null,
        session: null,
        lease: null,
      };
      const scope = [
        { machine },
        { holder: holders[other % 3] ?? 'web' },
        { machine, holder: holders[other % 3] ?? 'web' },
        { pool: flag ? 'v4' : 'v6' },
        { prefix: prefix('198.51.100.0/32') },
        { session: session?.id ?? 1 },
        { lease: lease?.id ?? 1 },
      ][pick % 7];
      const deadlineUs = other % 2 === 0 ? null : (other % 30) * second;
      return { kind, ...nothing, ...scope, deadlineUs, forced: deadlineUs === null && flag, reason: 'test' };
    }
    case 'unblock': {
      const blocked = one(
        [...tables.extents.values(), ...tables.blocks.values()].filter((place) => place.blocked !== null),
      );
      if (!blocked) return undefined;
      const { slice: id, protocol, ports, machine: owner } = blocked;
      if (!flag) return { kind, slice: id, protocol, ports };
      const generation = (tables.slices.get(id)?.generation ?? 1) - (other % 7 === 0 ? 1 : 0);
      const clear = [{ slice: id, generation, protocol, ports }];
      return { kind: 'report', machine: owner, revision: 0, leases: [], slices: [], clear };
    }
    case 'openSession':
      return { kind, scope: {}, machine, holder: holders[other % 3] ?? 'web', ttlUs: (other % 2 ? 30 : 300) * second };
    case 'keepSession':
      return session && { kind, scope: flag ? {} : { machine }, id: session.id };
    case 'endSession':
      return session && { kind, scope: {}, id: session.id, ending: flag ? 'released' : 'revoked' };
    case 'grantLeases':
      return (
        session && {
          kind,
          scope: flag ? {} : { machine: session.machine },
          ...(other % 6 === 0
            ? {
                reservation: {
                  machine: session.machine,
                  holder: session.holder,
                  unit: pick % 2 ? 'web.service' : null,
                },
              }
            : { session: session.id }),
          claims: claims.map(claimOf(session, tables)),
          placement,
        }
      );
    case 'explainGrant': {
      const whose = session && flag ? { session: session.id } : { bystander: machine };
      return { kind, scope: {}, claims: claims.map(claimOf(session ?? { machine }, tables)), placement, ...whose };
    }
    case 'releaseLease':
      return (
        lease && { kind, scope: {}, id: lease.id, token: other % 5 === 0 ? staleToken(lease) : formatToken(lease) }
      );
    case 'revokeLease':
      return (
        lease && {
          ...{ kind, id: lease.id, deadlineUs: other % 3 === 0 ? (other % 30) * second : null, reason: 'test' },
          forced: other % 3 === 1,
        }
      );
    case 'report':
      return reportOf(pick, other, flag, slice, lease);
    case 'updateMachine':
      return {
        ...{ kind, id: machine, state: intents[other % intents.length] ?? 'active' },
        ...(other % 5 === 0 ? { drainDeadlineUs: (other % 3) * 30 * second } : {}),
        ...(other % 6 === 1 ? { wants: wanted[pick % wanted.length] ?? [] } : {}),
      };
    case 'agentKeepalive':
      return {
        ...{ kind, machine, bootId: other % 5 === 0 ? 'another boot' : 'boot', version: '1' },
        appliedRevision: appliedBy(tables, machine, other, flag),
      };
    case 'sweep':
      return { kind, itemsMax: flag ? 100 : 2 };
    case 'putHolder':
      return {
        ...putHolder(
          machine,
          holders[other % 3] ?? 'web',
          900 + (other % 3),
          pick % 3 === 0 ? cgroups[other % 4] : undefined,
        ),
        ...(flag ? { limits: quotas[pick % quotas.length] ?? null } : other % 4 === 0 ? { limits: null } : {}),
        // Now and then one that must be there.
        ...(pick % 8 === 0 ? { ifRevision: null } : {}),
      };
    case 'deleteHolder': {
      // Mostly one that nothing lives of, so that some go.
      const idle = [...tables.holders.values()].filter(
        (row) =>
          ![...tables.sessions.values()].some(
            (session) => session.machine === row.machine && session.holder === row.name && !session.settled,
          ),
      );
      const { machine: of = machine, name = holders[other % 3] ?? 'web' } =
        (flag || other % 2 ? one(idle) : undefined) ?? {};
      return { kind, machine: of, name, ...(pick % 8 === 0 ? { ifRevision: 1 } : {}) };
    }
    case 'updatePool': {
      const carved = carvings[other % carvings.length] ?? [];
      const prefixes = [prefix('198.51.100.0/31'), ...(flag ? [prefix('203.0.113.0/32')] : [])];
      const stale = pick % 8 === 0 ? { ifRevision: 1 } : {};
      return { kind, id: 'v4', prefixes, carveOuts: carved, ...stale };
    }
    case 'deletePool':
      return { kind, id: pick % 8 === 0 ? 'v4' : 'v6' };
    case 'putRouter':
      return { kind, id: routers[other % 2] ?? 'south', labels: flag ? { site: 'fra1' } : {} };
    case 'deleteRouter':
      return { kind, id: routers[other % 2] ?? 'south' };
    case 'routerApplied': {
      const revisions = [...tables.slices.values()].map(({ routeRevision }) => routeRevision);
      // Mostly all of it; now and then not so far, or farther than there is.
      const some = other % 7 === 0 ? 100_000 : other % 3 === 0 ? (one(revisions) ?? 0) : Math.max(...revisions);
      return { kind, router: routers[pick % 2] ?? 'south', revision: some };
    }
    case 'weighSeen': {
      const epoch = one(tables.epochs.values());
      const id = other === 1 ? 'stranger' : (epoch?.id ?? '');
      // Mostly what there is.
      const revision = (epoch?.from ?? 0) + (other % 4 === 0 ? 1_000_000 : 0);
      return { kind, epoch: id, revision, witness: 'a test', newId: `epoch-of-${pick}-${tables.epochs.size}` };
    }
    case 'confirmEpoch':
      return { kind, number: Math.max(...tables.epochs.keys()) - (other % 9 === 0 ? 1 : 0), by: 'a test' };
    case 'createPool':
      // Under the name of one that is gone, perhaps, and of another size then.
      return { ...small, kind, id: 'v6', prefixes: [prefix('2001:db8::/48')], slicePorts: flag ? 4 : 8 };
    case 'createMachine':
      return newMachine(flag ? spare : machine);
    case 'deleteMachine':
      return { kind, id: flag ? spare : machine };
    case 'createToken':
      return { kind, name: 'ci', role: 'holder', machine, holder: holders[other % 3] ?? 'web', ...secret(), ...expiry };
    case 'updateToken':
      return token && { kind, id: token.id, name: 'cd', ...expiry };
    case 'rotateToken':
      return token && { kind, id: token.id, graceUs: (other % 3) * 10 * second, ...secret(), ...expiry };
    case 'revokeToken':
      return token && { kind, id: token.id };
    case 'noteDenials':
      return { kind, denials: [{ ...nobodyKnown, target: machine, agoUs: other * second }] };
    case 'reportGranted':
      return grantedReportOf({ pick, other, flag }, machine, tables);
    case 'noteTokenUses':
      return token && { kind, uses: [{ token: token.id, agoUs: other * second }] };
  }
}

/** How a slice is to be left: in its own time, at once, or by a deadline. */
const leavingTerms = (n: number) =>
  [{}, { force: true }, { deadlineUs: 10 * second }, { deadlineUs: 60 * second }][n % 4] ?? {};

/** A token of before: an older generation, or an older grant. */
export const staleToken = (lease: Lease): string =>
  formatToken({ ...lease, ...(lease.id % 2 ? { generation: lease.generation - 1 } : { id: lease.id - 1 }) });

/** What a broker may say: mostly what follows, about leases of a machine's own slices, and now and then what does not. */
function grantedReportOf(
  { pick, other, flag }: Pick<Ask, 'pick' | 'other' | 'flag'>,
  machine: string,
  tables: Tables,
): Command {
  const broker = tables.brokers.get(machine);
  const tenures = [...tables.tenures.values()].filter((row) => row.allocator === 'machine' || pick % 9 === 0);
  const now = Math.max(0, ...[...tables.tenures.values()].map(({ from }) => from)) + other * second;
  const states = ['pending', 'active', 'ending', 'cooling', 'ended', 'refused'] as const;
  const leases = tenures.slice(0, 3).map((tenure, index) => {
    const state = states[(pick + index) % states.length] ?? 'active';
    const isGone = state === 'cooling' || state === 'ended';
    const first = tenure.ports.first + ((other + index) % 20);
    return {
      id: 1 + ((other * 7 + index) % 30),
      ...{ slice: tenure.slice, generation: tenure.generation + (pick % 13 === 0 ? 1 : 0), epoch: 1 },
      ...{
        session: flag ? 1 + (other % 4) : null,
        holder: 'web',
        protocol: 'tcp' as const,
        ports: { first, last: first },
      },
      ...{ mode: 'exclusive' as const, binding: null, state, ending: isGone ? ('released' as const) : null },
      refusal: state === 'refused' ? { errno: 'EADDRINUSE', detail: 'a stranger' } : null,
      ...{ grantedAt: now, activeAt: now + 1, endingAt: isGone ? now + 2 : null, emptyAt: isGone ? now + 3 : null },
      reusableAt: isGone ? now + 10 * second : null,
      endedAt: state === 'ended' || state === 'refused' ? now + 10 * second : null,
      revision: (broker?.through ?? 0) + 1,
    };
  });
  const isAnew = broker === undefined || pick % 5 === 0;
  const page = broker?.snapshot && pick % 5 === 1 ? broker.snapshot.page + 1 : 1;
  const after = isAnew || page > 1 ? 0 : broker.through - (other % 6 === 0 ? 1 : 0);
  const through = page > 1 ? (broker?.snapshot?.through ?? 9) : after + 1 + (other % 3);
  return {
    kind: 'reportGranted',
    machine,
    epoch: isAnew && other % 3 === 0 ? `epoch-${other % 5}` : (broker?.epoch ?? 'epoch-0'),
    ...{ after, through, asOf: now + 20 * second },
    snapshot: isAnew || page > 1 ? { page, isLast: flag || other % 2 === 0, historySince: now - other * second } : null,
    sessions: leases.slice(0, 1).map(({ grantedAt, revision }) => ({
      ...{ id: 1 + (other % 4), holder: 'web', state: flag ? ('live' as const) : ('ended' as const) },
      ...{ ending: flag ? null : ('expired' as const), ttlUs: 30 * second, expiresAt: grantedAt + 30 * second },
      ...{ openedAt: grantedAt, endedAt: flag ? null : grantedAt + 30 * second, revision },
    })),
    leases,
    ...(pick % 4 === 0 ? { counters: { granted: other, refused: pick, ended: 0 } } : {}),
  };
}

function reportOf(pick: number, other: number, flag: boolean, slice?: Slice, lease?: Lease): Command | undefined {
  if (slice && (slice.state === 'assigning' || slice.state === 'draining' ? flag : other % 8 === 0)) {
    const generation = other % 7 === 0 ? slice.generation - 1 : slice.generation;
    const isNew = slice.state === 'assigning';
    const state = isNew === other % 5 > 0 ? 'assigned' : 'empty';
    const machine = slice.machine ?? 'edge-1';
    return { kind: 'report', machine, revision: 0, leases: [], slices: [{ slice: slice.id, generation, state }] };
  }
  if (!lease) return undefined;
  const item = { lease: lease.id, token: other % 7 === 0 ? staleToken(lease) : formatToken(lease) };
  const state =
    (['active', 'active', 'empty', 'empty', 'empty', 'refused', 'unit_gone'] as const)[pick % 7] ?? 'active';
  const said = state === 'refused' ? { ...item, state, errno: 'EADDRINUSE', detail: 'a stranger' } : { ...item, state };
  // Now and then the word of a machine that has nothing to say about it.
  const machine = other % 11 === 0 ? 'edge-2' : lease.machine;
  return { kind: 'report', machine, revision: 0, leases: [said], slices: [] };
}

const claimOf =
  (session: Pick<Session, 'machine'>, tables: Tables) =>
  ({ at: where, select, count, ...raw }: RawClaim): Claim => {
    const slices = [...tables.slices.values()].filter((slice) => slice.machine === session.machine);
    const slice = where === null ? undefined : slices[where % Math.max(1, slices.length)];
    // Aligned mostly, and one step too far to the right now and then.
    const size = 2 ** Math.ceil(Math.log2(raw.ports ?? (raw.mode === 'shared' ? 4 : 1)));
    const firstPort = (slice?.ports.first ?? 0) + ((size * ((where ?? 0) >> 2)) % 16) + ((where ?? 0) === 255 ? 1 : 0);
    // Now and then anywhere on the address, full or not.
    const isAnywhere = slice !== undefined && (where ?? 0) % 8 === 3;
    const at = slice && !isAnywhere ? { address: slice.address, firstPort } : null;
    const selector = select === null ? null : must(parseSelector(select));
    return {
      ...raw,
      count: at ? 1 : count,
      select: selector,
      pool: null,
      family: null,
      address: isAnywhere ? slice.address : null,
      at,
    };
  };
