import { questionIn } from './dns.ts';
import type { Packet } from './pcap.ts';

/** One conversation as the origin's wire saw it: a 5-tuple, from its first packet to its last. */
export type Flow = Readonly<{
  protocol: Packet['protocol'];
  source: string;
  sourcePort: number;
  destination: string;
  destinationPort: number;
  /** Who says, in what it carries, to have sent it: the request's `from=…;`, the first label of the name that is asked for. */
  senders: readonly string[];
  /** Microseconds since 1970. */
  first: number;
  last: number;
  /** The last packet toward the origin, which may go on sending to somebody who is long gone. */
  lastOut: number;
  /** Towards the origin, and from it. */
  packetsOut: number;
  packetsIn: number;
  resetsOut: number;
  resetsIn: number;
  /** A FIN or a reset was seen: a new SYN on this 5-tuple is then a new conversation. */
  closed: boolean;
}>;

type Open = { -readonly [K in keyof Flow]: Flow[K] } & { senders: string[]; sequence: number | undefined };

export const tupleOf = (flow: Pick<Flow, 'protocol' | 'source' | 'sourcePort' | 'destination' | 'destinationPort'>) =>
  `${flow.protocol} ${flow.source}:${flow.sourcePort} > ${flow.destination}:${flow.destinationPort}`;

/**
 * Puts packets together into flows. A new SYN on a 5-tuple begins a new flow, so that one after the other is not taken
 * for one; a repeated SYN (same sequence number) does not.
 */
export function flowsIn(packets: Iterable<Packet>, isOrigin: (address: string) => boolean): Flow[] {
  const flows: Open[] = [];
  const current = new Map<string, Open>();
  for (const packet of packets) {
    const isOut = isOrigin(packet.destination);
    if (!isOut && !isOrigin(packet.source)) continue;
    const ends = isOut ? packet : turned(packet);
    const key = tupleOf(ends);
    let flow = current.get(key);
    const opens = isOut && packet.tcp?.syn && !packet.tcp.ack ? packet.tcp : null;
    if (!flow || (opens && flow.sequence !== opens.sequence)) {
      flow = begin(ends, packet);
      current.set(key, flow);
      flows.push(flow);
    }
    if (opens) flow.sequence = opens.sequence;
    flow.last = packet.at;
    if (packet.tcp?.fin || packet.tcp?.rst) flow.closed = true;
    if (isOut) {
      flow.packetsOut++;
      flow.lastOut = packet.at;
    } else flow.packetsIn++;
    if (packet.tcp?.rst) {
      if (isOut) flow.resetsOut++;
      else flow.resetsIn++;
    }
    const sender = isOut ? senderOf(packet) : undefined;
    if (sender !== undefined && !flow.senders.includes(sender)) flow.senders.push(sender);
  }
  return flows;
}

const turned = (packet: Packet): Packet => ({
  ...packet,
  source: packet.destination,
  sourcePort: packet.destinationPort,
  destination: packet.source,
  destinationPort: packet.sourcePort,
});

const begin = ({ protocol, source, sourcePort, destination, destinationPort }: Packet, { at }: Packet): Open => ({
  ...{ protocol, source, sourcePort, destination, destinationPort, senders: [], sequence: undefined },
  ...{ first: at, last: at, lastOut: at, packetsOut: 0, packetsIn: 0, resetsOut: 0, resetsIn: 0, closed: false },
});

function senderOf({ protocol, payload }: Packet): string | undefined {
  if (protocol === 'udp') return questionIn(payload)?.name.split('.')[0];
  return /from=([a-z0-9-]+);/.exec(new TextDecoder('latin1').decode(payload))?.[1];
}

/**
 * 5-tuples that two had at the same time: a conversation that begins while the one before it is not over, and one that
 * more than one sender says to be its own.
 */
export function collisions(flows: readonly Flow[]): string[] {
  return [...Map.groupBy(flows, tupleOf)].flatMap(([tuple, same]) => {
    const cutOff = same.slice(0, -1).filter(({ protocol, closed }) => protocol === 'tcp' && !closed);
    const claimed = same.filter(({ senders }) => senders.length > 1);
    return [
      ...cutOff.map(() => `${tuple}: a second conversation began before the first was over`),
      ...claimed.map(({ senders }) => `${tuple}: ${senders.join(' and ')}`),
    ];
  });
}
