import { z } from 'zod';
import { talkerKinds } from '../fish/log/talkers.ts';

import type { Address } from '../net/address.ts';
import { AddressText, ProtocolName } from '../wire/primitives.ts';
import { formatInstant } from '../wire/instants.ts';
import type { FishPort } from './fish-port.ts';

const limit = z.coerce.number().int().min(1).max(10_000);

/** What may be asked of each page, in its query. */
export const flowQueries = {
  '/flows': z.strictObject({
    client: AddressText.optional(),
    remote: AddressText.optional(),
    lease: z.string().max(128).optional(),
    protocol: ProtocolName.optional(),
    state: z.enum(['live', 'resting']).optional(),
    limit: limit.default(100),
  }),
  '/flows/top': z.strictObject({ by: z.enum(talkerKinds).default('client'), limit: limit.default(20) }),
  '/flows/ports': z.strictObject({ limit: limit.max(1_000).default(5) }),
} as const;

export { talkerKinds };
export type FlowPage = keyof typeof flowQueries;
export const isFlowPage = (path: string): path is FlowPage => Object.hasOwn(flowQueries, path);

/** The status, and what to answer: JSON, or a line about what is wrong with the question. */
export async function flowPage(
  fish: FishPort | undefined,
  page: FlowPage,
  query: URLSearchParams,
): Promise<Readonly<{ code: number; body: object | string }>> {
  const asked = Object.fromEntries(query);
  const wrong = flowQueries[page].safeParse(asked).error?.issues[0];
  if (wrong) return { code: 400, body: `${wrong.path.join('.') || 'the query'}: ${wrong.message}` };
  if (!fish) return { code: 503, body: 'fish does not run on this host, or not now' };
  if (page === '/flows') return { code: 200, body: await flowsOf(fish, flowQueries[page].parse(asked)) };
  if (page === '/flows/top') {
    const { by, limit: max } = flowQueries[page].parse(asked);
    const talkers = await fish.topTalkers(by, max);
    return {
      code: 200,
      body: {
        by,
        talkers: talkers.map(({ name, flows, packetsOut, bytesOut, packetsIn, bytesIn }) => ({
          ...{ name, flows, packets_out: packetsOut, bytes_out: bytesOut, packets_in: packetsIn, bytes_in: bytesIn },
        })),
      },
    };
  }
  const remotes = await fish.busyRemotes(flowQueries[page].parse(asked).limit);
  return {
    code: 200,
    body: {
      remotes: remotes.map(({ remotePort, ...each }) => ({
        ...each,
        remote_port: remotePort,
        saturation: each.ports === 0 ? null : Math.round((each.used / each.ports) * 1_000) / 1_000,
      })),
    },
  };
}

async function flowsOf(fish: FishPort, query: z.output<(typeof flowQueries)['/flows']>): Promise<object> {
  const { limit: max, client, remote, ...rest } = query;
  const given = Object.entries({ ...rest, client: client as Address, remote: remote as Address });
  const filter = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  const { flows, truncated } = await fish.flows(filter, max);
  return {
    holder: fish.holder,
    flows: flows.map((flow) => ({
      ...{ protocol: flow.protocol, state: flow.state, lease: flow.lease },
      ...{ client: flow.client, client_port: flow.clientPort, address: flow.address, port: flow.port },
      ...{ remote: flow.remote, remote_port: flow.remotePort, opened_at: formatInstant(flow.openedAt) },
      ...{ placeholder: flow.hasPlaceholder, packets_out: flow.packetsOut, bytes_out: flow.bytesOut },
      ...{ packets_in: flow.packetsIn, bytes_in: flow.bytesIn },
    })),
    truncated,
  };
}
