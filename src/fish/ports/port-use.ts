import type { Family } from '../../net/address.ts';
import { portCount } from '../../net/ports.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';
import type { BlockTable } from './blocks.ts';
import type { FlowLife } from '../flows/flow-life.ts';
import { flowProtocol } from '../packet/packet.ts';

/** How far the leased ports of a protocol are used. Flows that rest have a port, too. */
export type ProtocolUse = Readonly<{
  protocol: Protocol;
  family: Family;
  /** Ports that new flows may get, */
  ports: number;
  /** and ports of leases that are draining. */
  portsDraining: number;
  /** Flows toward the destination that has most of them: as many ports are no more to be had there. */
  busiest: number;
  /** New flows that found no port, since the start. */
  refused: number;
}>;

export type LeaseUse = Readonly<{ lease: string; flows: number; draining: boolean }>;

export type PortUse = Readonly<{ protocols: readonly ProtocolUse[]; leases: readonly LeaseUse[] }>;

/** Of every protocol and every lease that there is; it costs as much as there are blocks, however many flows. */
export function portUse(life: FlowLife, blocks: BlockTable): PortUse {
  const leases = new Map<string, LeaseUse>();
  const draining = new Map<number, number>();
  for (const slot of blocks.slots()) {
    const { lease, ports } = blocks.at(slot);
    const isDraining = blocks.isDraining(slot);
    const flows = (leases.get(lease)?.flows ?? 0) + (blocks.flows[slot] ?? 0);
    leases.set(lease, { lease, flows, draining: isDraining });
    const protocol = blocks.protocolOf(slot);
    if (isDraining) draining.set(protocol, (draining.get(protocol) ?? 0) + portCount(ports));
  }
  const families: readonly Family[] = [4, 6];
  const used = families.flatMap((family) =>
    protocols.map((name): ProtocolUse => {
      const protocol = flowProtocol(name, family);
      return {
        protocol: name,
        family,
        ports: blocks.portsOf(protocol),
        portsDraining: draining.get(protocol) ?? 0,
        busiest: life.destinations.busiest(protocol),
        refused: life.refusedOf(protocol),
      };
    }),
  );
  return {
    protocols: used.filter(({ ports, portsDraining }) => ports + portsDraining > 0),
    leases: [...leases.values()],
  };
}
