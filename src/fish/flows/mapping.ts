import { ICMP, IPV6, TCP, UDP } from '../packet/packet.ts';

/**
 * What of a remote counts, in the words of RFC 4787: nothing, its address, its address and its port. Of a mapping it tells one
 * from another; of a filter it is what the client must have sent to before it can be answered from there.
 */
export const dependences = ['endpoint_independent', 'address_dependent', 'address_and_port_dependent'] as const;
export type Dependence = (typeof dependences)[number];

/** Whether `a` looks at more of the remote than `b`. */
export const isStricter = (a: Dependence, b: Dependence): boolean => dependences.indexOf(a) > dependences.indexOf(b);

/** Whether UDP's filter asks for more than the mapping's own key tells: then it needs a list of peers. */
export const needsPeers = (udp: Readonly<{ udpFiltering: Dependence; udpMapping: Dependence }>): boolean =>
  isStricter(udp.udpFiltering, udp.udpMapping);

const ALL = -1;

/**
 * The remote as it is in a flow's keys: what the mapping does not look at is 0 there. Masks by protocol number, so that asking
 * costs a packet no branch. TCP looks at all of it, so that one leased port serves many remotes; an echo has no remote port.
 */
export class MappingKeys {
  readonly #address = new Int32Array(256);
  readonly #port = new Int32Array(256);

  constructor(udpMapping: Dependence) {
    for (const family of [0, IPV6]) {
      this.#address[TCP | family] = this.#port[TCP | family] = ALL;
      this.#address[ICMP | family] = ALL;
      if (isStricter(udpMapping, 'endpoint_independent')) this.#address[UDP | family] = ALL;
      if (isStricter(udpMapping, 'address_dependent')) this.#port[UDP | family] = ALL;
    }
  }

  remoteOf(protocol: number, remote: number): number {
    // There is a mask for every number that fits the header's byte.
    return (remote & this.#address[protocol]!) >>> 0;
  }

  remotePortOf(protocol: number, remotePort: number): number {
    return remotePort & this.#port[protocol]!;
  }

  /** Whether a remote in a row can be one that this mapping has written there, and not another's. */
  isKey(protocol: number, remote: number, remotePort: number): boolean {
    const hasAddress = this.#address[protocol] === ALL;
    const hasPort = this.#port[protocol] === ALL;
    return (remote !== 0) === hasAddress && (remotePort !== 0) === hasPort;
  }
}
