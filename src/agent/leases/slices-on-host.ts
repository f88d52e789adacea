import { parseAddress, type Address } from '../../net/address.ts';
import type { Slice } from '../../wire/slices.ts';
import type { DesiredMachine } from '../server/desired.ts';
import type { SliceOutcome } from '../server/reports.ts';

/** Every address of which this machine has a slice, in canonical text. */
export function addressesOf(desired: DesiredMachine): readonly Address[] {
  return [...new Set([...desired.slices.values()].flatMap((slice) => addressOf(slice) ?? []))];
}

/** undefined for text that is no address, which a server of this version never sends. */
function addressOf(slice: Slice): Address | undefined {
  const parsed = parseAddress(slice.address);
  return parsed.ok ? parsed.value : undefined;
}

/** Who grants in slices of this machine, beside the server. */
export type SliceGranter = Readonly<{
  /** Whether nothing lives in the slice, and nothing is granted in it again, whatever the server says of it. */
  isOver(slice: Slice): boolean;
  /** Whether the server may be told already. */
  mayTell(slice: Slice, state: SliceOutcome['state']): boolean;
}>;

const nobody: SliceGranter = { isOver: () => false, mayTell: () => true };

/** What to say about slices, each thing once until a snapshot asks for everything again. */
export class SlicesOnHost {
  readonly #told = new Map<string, string>();

  forgetTold(): void {
    this.#told.clear();
  }

  /** It is to be said again. */
  forget(slice: string): void {
    this.#told.delete(slice);
  }

  /**
   * `assigned` for a slice whose address is on the host behind the guard, `empty` for one that drains, or is over here, and of
   * which no lease is left, neither in the desired state nor on the host.
   */
  outcomes(
    desired: DesiredMachine,
    isReady: (address: Address) => boolean,
    isHeld: (slice: string) => boolean,
    granter = nobody,
  ): readonly SliceOutcome[] {
    const slices = [...desired.slices.values()];
    const leaving = new Set(slices.filter((slice) => slice.state === 'draining' || granter.isOver(slice)));
    const leased = new Set(leaving.size === 0 ? [] : [...desired.leases.values()].map((lease) => lease.slice));
    for (const id of this.#told.keys()) if (!desired.slices.has(id)) this.#told.delete(id);
    return slices.flatMap((slice): readonly SliceOutcome[] => {
      const state = leaving.has(slice)
        ? leased.has(slice.id) || isHeld(slice.id)
          ? undefined
          : 'empty'
        : this.#hereState(slice, isReady);
      const word = `${slice.generation} ${state}`;
      if (state === undefined || this.#told.get(slice.id) === word || !granter.mayTell(slice, state)) return [];
      this.#told.set(slice.id, word);
      return [{ slice: slice.id, generation: slice.generation, state }];
    });
  }

  #hereState(slice: Slice, isReady: (address: Address) => boolean): SliceOutcome['state'] | undefined {
    const address = addressOf(slice);
    return slice.state === 'assigning' && address !== undefined && isReady(address) ? 'assigned' : undefined;
  }
}
