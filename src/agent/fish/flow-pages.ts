import { z } from 'zod';
import type { FlowFilter } from '../../fish/log/flow-views.ts';
import { talkerKinds, type TalkerKind } from '../../fish/log/talkers.ts';
import type { Address } from '../../net/address.ts';
import { AddressText, ProtocolName } from '../../wire/primitives.ts';
import { formatInstant } from '../../wire/instants.ts';
import { connectSeconds, destinationOrders } from '../../terminate/destinations.ts';
import type { BeginningConnection } from '../../terminate/connection-memory.ts';
import type { FishPort } from './fish-port.ts';
import type { TerminatorViews } from '../terminator-on-host.ts';

/** How they get through this host. */
export const flowPaths = ['packet', 'terminate'] as const;
const path = z.enum(flowPaths).optional();
const limit = z.coerce.number().int().min(1).max(10_000);

/** What may be asked of each page, in its query. */
export const flowQueries = {
  '/flows': z.strictObject({
    client: AddressText.optional(),
    remote: AddressText.optional(),
    remote_port: z.coerce.number().int().min(0).max(65_535).optional(),
    lease: z.string().max(128).optional(),
    holder: z.string().max(128).optional(),
    protocol: ProtocolName.optional(),
    state: z.enum(['live', 'resting']).optional(),
    path,
    limit: limit.default(100),
  }),
  '/flows/top': z.strictObject({ by: z.enum(talkerKinds).default('client'), path, limit: limit.default(20) }),
  '/flows/ports': z.strictObject({ path, limit: limit.max(1_000).default(5) }),
  '/flows/origins': z.strictObject({
    by: z.enum(destinationOrders).default('failures'),
    remote: AddressText.optional(),
    remote_port: z.coerce.number().int().min(0).max(65_535).optional(),
    limit: limit.default(20),
  }),
} as const;

export { destinationOrders, talkerKinds };
export type FlowPage = keyof typeof flowQueries;
export const isFlowPage = (path: string): path is FlowPage => Object.hasOwn(flowQueries, path);

/** Who has flows on this host; undefined for one that does not run. */
export type FlowHolders = Readonly<{
  fish: Pick<FishPort, 'holder' | 'flows' | 'topTalkers' | 'busyRemotes'> | undefined;
  terminator: TerminatorViews | undefined;
}>;

/** The status, and what to answer: JSON, or a line about what is wrong with the question. */
export async function flowPage(
  holders: FlowHolders,
  page: FlowPage,
  query: URLSearchParams,
): Promise<Readonly<{ code: number; body: object | string }>> {
  const asked = Object.fromEntries(query);
  const wrong = flowQueries[page].safeParse(asked).error?.issues[0];
  if (wrong) return { code: 400, body: `${wrong.path.join('.') || 'the query'}: ${wrong.message}` };
  if (page === '/flows/origins') return originsOf(holders.terminator, flowQueries[page].parse(asked));
  const { path } = flowQueries[page].parse(asked);
  const fish = path === 'terminate' ? undefined : holders.fish;
  const terminator = path === 'packet' ? undefined : holders.terminator;
  if (!fish && !terminator) return { code: 503, body: absent[path ?? 'either'] };
  // Who was asked: of a path that is not here nothing is known.
  const paths = [...(fish ? ['packet'] : []), ...(terminator ? ['terminate'] : [])];
  if (page === '/flows') {
    const query = flowQueries[page].parse(asked);
    const of = <Holder extends Readonly<{ holder: string }>>(each: Holder | undefined) =>
      query.holder === undefined || each?.holder === query.holder ? each : undefined;
    return { code: 200, body: { paths, ...(await flowsOf(of(fish), of(terminator), query)) } };
  }
  if (page === '/flows/top') {
    const { by, limit: max } = flowQueries[page].parse(asked);
    return { code: 200, body: { paths, by, talkers: await talkersOf(fish, terminator, by, max) } };
  }
  const { limit: max } = flowQueries[page].parse(asked);
  return { code: 200, body: { paths, remotes: await remotesOf(fish, terminator, max) } };
}

/** Only who connects itself knows what became of it. */
async function originsOf(
  terminator: FlowHolders['terminator'],
  { by, remote, remote_port: port, limit: max }: z.output<(typeof flowQueries)['/flows/origins']>,
): Promise<Readonly<{ code: number; body: object | string }>> {
  if (!terminator) return { code: 503, body: absent.terminate };
  const filter = { ...(remote === undefined ? {} : { address: remote }), ...(port === undefined ? {} : { port }) };
  const { destinations, truncated } = await terminator.destinations(by, filter, max);
  const origins = destinations.map(({ address, port, connect_times: { counts, sum_s, max_s }, ...each }) => ({
    ...{ path: 'terminate', remote: address, remote_port: port, ...each },
    connect_mean_s: each.connected === 0 ? null : rounded(sum_s / each.connected),
    connect_max_s: each.connected === 0 ? null : rounded(max_s),
    connect_counts: counts,
  }));
  return { code: 200, body: { paths: ['terminate'], by, connect_classes_s: connectSeconds, origins, truncated } };
}
/** To microseconds. */
const rounded = (seconds: number): number => Math.round(seconds * 1e6) / 1e6;

const absent = {
  packet: 'fish does not run on this host, or not now',
  terminate: 'the terminator does not run on this host, or not now',
  either: 'fish does not run on this host, or not now, nor does a terminator',
} as const;
type Packet = FlowHolders['fish'];
type Terminated = FlowHolders['terminator'];

async function talkersOf(
  fish: Packet,
  terminator: Terminated,
  by: TalkerKind,
  max: number,
): Promise<readonly object[]> {
  const translated = (await fish?.topTalkers(by, max)) ?? [];
  const terminated = (await terminator?.talkers(by, max)) ?? [];
  return [
    ...translated.map(({ name, flows, packetsOut, bytesOut, packetsIn, bytesIn }) => ({
      ...{ path: 'packet', name, flows },
      ...{ packets_out: packetsOut, bytes_out: bytesOut, packets_in: packetsIn, bytes_in: bytesIn },
    })),
    ...terminated.map(({ name, connections, bytesOut, bytesIn }) => ({
      ...{ path: 'terminate', name, flows: connections },
      ...{ packets_out: null, bytes_out: bytesOut, packets_in: null, bytes_in: bytesIn },
    })),
  ]
    .sort((a, b) => b.bytes_out + b.bytes_in - (a.bytes_out + a.bytes_in))
    .slice(0, max);
}

async function remotesOf(fish: Packet, terminator: Terminated, max: number): Promise<readonly object[]> {
  const saturation = ({ used, ports }: Readonly<{ used: number; ports: number }>) =>
    ports === 0 ? null : Math.round((used / ports) * 1_000) / 1_000;
  const translated = (await fish?.busyRemotes(max)) ?? [];
  const terminated = (await terminator?.busiest(max)) ?? [];
  return [
    ...translated.map(({ remotePort, ...each }) => ({ path: 'packet', ...each, remote_port: remotePort })),
    ...terminated.map(({ remotePort, ...each }) => ({
      ...{ path: 'terminate', protocol: 'tcp', ...each, remote_port: remotePort },
    })),
  ].map((each) => ({ ...each, saturation: saturation(each) }));
}

async function flowsOf(
  fish: Packet,
  terminator: Terminated,
  query: z.output<(typeof flowQueries)['/flows']>,
): Promise<Readonly<{ flows: readonly object[]; truncated: boolean }>> {
  const { limit: max, client, remote, remote_port: remotePort, lease, protocol: only, state: phase } = query;
  const given = Object.entries({
    lease,
    protocol: only,
    state: phase,
    client: client as Address,
    remote: remote as Address,
    remotePort,
  });
  const filter = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  const translated = (await fish?.flows(filter, max)) ?? { flows: [], truncated: false };
  const { protocol = 'tcp', state = 'live', ...ends } = filter as FlowFilter;
  // A port that rests is told by the kernel alone.
  const isAsked = protocol === 'tcp' && state === 'live';
  const terminated = (isAsked ? await terminator?.connections(ends, max) : null) ?? {
    connections: [],
    truncated: false,
  };
  const flows = [
    ...translated.flows.map((flow) => ({
      ...{ path: 'packet', holder: fish?.holder, protocol: flow.protocol, state: flow.state },
      ...endsOf(flow),
      ...{ placeholder: flow.hasPlaceholder, packets_out: flow.packetsOut, bytes_out: flow.bytesOut },
      ...{ packets_in: flow.packetsIn, bytes_in: flow.bytesIn },
    })),
    ...terminated.connections.map((each) => ({
      ...{ path: 'terminate', holder: terminator?.holder, protocol: 'tcp', state: 'live' },
      ...endsOf(each),
      ...{ placeholder: false, packets_out: null, bytes_out: each.bytesOut, packets_in: null, bytes_in: each.bytesIn },
    })),
  ];
  const truncated = translated.truncated || terminated.truncated || flows.length > max;
  return { flows: flows.slice(0, max), truncated };
}

const endsOf = (flow: BeginningConnection) => ({
  ...{ lease: flow.lease, client: flow.client, client_port: flow.clientPort, address: flow.address, port: flow.port },
  ...{ remote: flow.remote, remote_port: flow.remotePort, opened_at: formatInstant(flow.openedAt) },
});
