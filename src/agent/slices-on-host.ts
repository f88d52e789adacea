import { parseAddress, type Address } from '../net/address.ts';
import type { Slice } from '../wire/slices.ts';
import type { DesiredMachine } from './desired.ts';
import type { SliceOutcome } from './reports.ts';

/** Every address of which this machine has a slice, in canonical text. */
export function addressesOf(desired: DesiredMachine): readonly Address[] {
  return [...new Set([...desired.slices.values()].flatMap((slice) => addressOf(slice) ?? []))];
}

/** undefined for text that is no address, which a server of this version never sends. */
function addressOf(slice: Slice): Address | undefined {
  const parsed = parseAddress(slice.address);
  return parsed.ok ? parsed.value : undefined;
}

/** What to say about slices, each thing once until a snapshot asks for everything again. */
export class SlicesOnHost {
  readonly #told = new Map<string, string>();

  forgetTold(): void {
    this.#told.clear();
  }

  /**
   * `assigned` for a slice whose address is on the host behind the guard, `empty` for one that drains and of which no
   * lease is left, neither in the desired state nor on the host. `mayTell`: whether somebody else has to be sure first.
   */
  outcomes(
    desired: DesiredMachine,
    isReady: (address: Address) => boolean,
    isHeld: (slice: string) => boolean,
    mayTell: (slice: Slice, state: SliceOutcome['state']) => boolean = () => true,
  ): readonly SliceOutcome[] {
    const draining = [...desired.slices.values()].filter((slice) => slice.state === 'draining');
    const leased = new Set(draining.length === 0 ? [] : [...desired.leases.values()].map((lease) => lease.slice));
    for (const id of this.#told.keys()) if (!desired.slices.has(id)) this.#told.delete(id);
    return [...desired.slices.values()].flatMap((slice): readonly SliceOutcome[] => {
      const state = this.#stateOf(slice, isReady, leased, isHeld);
      const word = `${slice.generation} ${state}`;
      if (state === undefined || this.#told.get(slice.id) === word || !mayTell(slice, state)) return [];
      this.#told.set(slice.id, word);
      return [{ slice: slice.id, generation: slice.generation, state }];
    });
  }

  #stateOf(
    slice: Slice,
    isReady: (address: Address) => boolean,
    leased: ReadonlySet<string>,
    isHeld: (slice: string) => boolean,
  ): SliceOutcome['state'] | undefined {
    const address = addressOf(slice);
    if (slice.state === 'assigning') return address !== undefined && isReady(address) ? 'assigned' : undefined;
    return slice.state === 'draining' && !leased.has(slice.id) && !isHeld(slice.id) ? 'empty' : undefined;
  }
}
