import { ipv4FromNumber, type Address, type Family } from '../../net/address.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';
import type { AddressBook } from '../packet/address-book.ts';
import type { BlockTable } from '../ports/blocks.ts';
import type { FlowLife } from '../flows/flow-life.ts';
import { FREE } from '../flows/flow-table.ts';
import { largestOf, walkRows, type Walk } from './walk.ts';
import type { Traffic } from '../flows/flow-traffic.ts';
import { familyOfProtocol, flowProtocol } from '../packet/packet.ts';

export const talkerKinds = ['client', 'lease', 'remote'] as const;
export type TalkerKind = (typeof talkerKinds)[number];

/** All flows of a client or a lease, or toward a remote: those that are there now, and what has passed through them. */
export type Talker = Traffic & Readonly<{ name: string; flows: number }>;

type Sum = { flows: number; packetsOut: number; bytesOut: number; packetsIn: number; bytesIn: number };

/** Those with the most bytes, up to `max`. */
export function* topTalkers(
  life: FlowLife,
  book: AddressBook,
  blocks: BlockTable,
  by: TalkerKind,
  max: number,
): Walk<readonly Talker[]> {
  const { flows, traffic } = life;
  const column = { client: flows.client, lease: flows.block, remote: flows.remote }[by];
  const sums = new Map<string | number, Sum>();
  /** An IPv4 address as its number. One of IPv6 as its text: its number may be another's before the walk is over. */
  const keyOf = (flow: number): string | number => {
    // flow is a row of every column.
    const [value, protocol] = [column[flow]!, flows.protocol[flow]!];
    if (by === 'lease') return blocks.at(value).lease;
    if (value === 0) return 'any';
    return familyOfProtocol(protocol) === 4 ? value : book.textOf(protocol, value);
  };
  yield* walkRows(flows.capacity, (flow) => {
    if (flows.state[flow] === FREE) return true;
    const key = keyOf(flow);
    const sum = sums.get(key) ?? { flows: 0, packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 };
    if (sum.flows === 0) sums.set(key, sum);
    const passed = traffic.of(flow);
    sum.flows++;
    sum.packetsOut += passed.packetsOut;
    sum.bytesOut += passed.bytesOut;
    sum.packetsIn += passed.packetsIn;
    sum.bytesIn += passed.bytesIn;
    return true;
  });
  const best = yield* largestOf(sums, ([, sum]) => sum.bytesOut + sum.bytesIn, max);
  return best.map(([key, sum]) => ({ name: typeof key === 'number' ? ipv4FromNumber(key) : key, ...sum }));
}

/** How far the leased ports of a protocol are used toward one remote; null: toward all of them, as UDP's mappings are. */
export type BusyRemote = Readonly<{
  protocol: Protocol;
  family: Family;
  remote: Address | null;
  remotePort: number | null;
  /** Ports that flows have there, those that rest included: nobody else gets one of them for this remote. */
  used: number;
  /** Of so many, those of leases that are draining not included. */
  ports: number;
}>;

/** Of each protocol the `max` remotes toward which most ports are used, the busiest first. */
export function busyRemotes(life: FlowLife, book: AddressBook, blocks: BlockTable, max: number): readonly BusyRemote[] {
  const families: readonly Family[] = [4, 6];
  return families.flatMap((family) =>
    protocols.flatMap((name) => {
      const protocol = flowProtocol(name, family);
      return life.destinations.busiestOf(protocol, max).map(({ remote, port, flows }): BusyRemote => {
        const address = remote === 0 ? null : book.textOf(protocol, remote);
        const remotePort = port === 0 ? null : port;
        return { protocol: name, family, remote: address, remotePort, used: flows, ports: blocks.portsOf(protocol) };
      });
    }),
  );
}
