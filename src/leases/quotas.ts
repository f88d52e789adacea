import { portCount } from '../net/ports.ts';
import { protocols, type Protocol } from '../net/protocol.ts';
import { err, ok, type Result } from '../net/result.ts';
import type { Grantee } from './claims.ts';
import type { LeaseError } from './errors.ts';
import type { Holder, HolderLimits } from './model.ts';
import type { Need } from './needs.ts';
import type { Spot } from './spots.ts';
import { portsMoved } from './usage.ts';
import type { View } from './view.ts';

/**
 * What holders may have at most, and what is kept for them. Where no holder of a machine has limits nothing is counted and
 * nothing of this is looked at.
 */

export const isCounted = (view: View, machine: string): boolean =>
  (view.machines.get(machine)?.limitedHolders ?? 0) > 0;

/** The machine must be known. */
export const quotaNeeds = (view: View, machine: string): readonly Need[] =>
  isCounted(view, machine)
    ? [{ need: 'limitedHolders', machine }, ...protocols.map((protocol): Need => ({ need: 'room', machine, protocol }))]
    : [];

export const sameLimits = (a: HolderLimits | null, b: HolderLimits | null): boolean =>
  JSON.stringify(a) === JSON.stringify(b);

/** What of a machine is left to one holder, as one request takes it port by port. */
export class Quota {
  readonly #view: View;
  readonly #to: Grantee;
  readonly #own: HolderLimits | null;
  readonly #held: Record<Protocol, number>;
  /** What others have a right to and do not have yet, and what is free; filled in for each protocol that is asked for. */
  readonly #others = new Map<Protocol, { free: number; readonly kept: number }>();

  constructor(view: View, to: Grantee) {
    this.#view = view;
    this.#to = to;
    this.#own = limitedHolders(view, to.machine).find(({ name }) => name === to.holder)?.limits ?? null;
    this.#held = this.#own ? { ...view.heldBy(to.machine, to.holder) } : { tcp: 0, udp: 0, icmp: 0 };
  }

  /** Notes that the spot is taken; or why it must not be. */
  take(protocol: Protocol, spot: Spot): Result<undefined, LeaseError> {
    const { machine, holder } = this.#to;
    const ports = portCount('join' in spot ? spot.join.ports : spot.block);
    const held = this.#held[protocol];
    const max = this.#own?.portsMax[protocol] ?? null;
    if (max !== null && held + ports > max)
      return err({ code: 'holder_ports_exceeded', machine, holder, protocol, held, ports, max });
    // To join a block takes nothing from anybody.
    if ('extent' in spot) {
      const others = this.#othersOn(protocol);
      const { free, kept } = others;
      // What is kept for the holder itself it gets, also where more is kept for all of them together than there is.
      const isKeptForIt = held + ports <= (this.#own?.portsMin[protocol] ?? 0);
      if (!isKeptForIt && kept > 0 && free - ports < kept)
        return err({ code: 'ports_kept_for_others', machine, protocol, ports, free, kept });
      others.free -= ports;
    }
    this.#held[protocol] += ports;
    return ok(undefined);
  }

  #othersOn(protocol: Protocol): { free: number; readonly kept: number } {
    const known = this.#others.get(protocol);
    if (known) return known;
    const { machine, holder } = this.#to;
    const kept = limitedHolders(this.#view, machine)
      .filter(({ name, limits }) => name !== holder && (limits?.portsMin[protocol] ?? 0) > 0)
      .reduce((sum, { name, limits }) => {
        const lacking = (limits?.portsMin[protocol] ?? 0) - this.#view.heldBy(machine, name)[protocol];
        return sum + Math.max(0, lacking);
      }, 0);
    const others = { free: kept > 0 ? freePorts(this.#view, machine, protocol) : 0, kept };
    this.#others.set(protocol, others);
    return others;
  }
}

function limitedHolders(view: View, machine: string): readonly Holder[] {
  return [...view.holders.values()].filter((holder) => holder.machine === machine && holder.limits !== null);
}

/** Ports that the server may grant from, after what this batch did so far. */
function freePorts(view: View, machine: string, protocol: Protocol): number {
  const before = view.roomOf(machine, protocol);
  const since = portsMoved({
    extents: view.extents.changes(),
    blocks: [],
    leases: [],
  }).filter((row) => row.machine === machine && row.protocol === protocol);
  return [...before, ...since].reduce((sum, { state, ports }) => (state === 'free' ? sum + ports : sum), 0);
}
