import type { Result } from '../net/result.ts';
import type { CommandKind, Commands, Output } from './commands.ts';
import type { LeaseError } from './errors.ts';
import type { Needs } from './needs.ts';
import type { Replay } from './replays.ts';
import type { View } from './view.ts';

/** What a decision may look at. `startedAt` is when this server took over: see `expiry.ts`. Both in microseconds. */
export type Context = Readonly<{ view: View; now: number; startedAt: number }>;

/**
 * One thing that can be asked of the core. `needs` says what must be loaded, `decide` works on it: pure and synchronous.
 * It returns an error before or after it changed the view, as it likes; the caller undoes what a failed one did.
 */
export type UseCase<K extends CommandKind> = Readonly<{
  needs: (input: Commands[K]['input'], context: Context) => Needs;
  decide: (input: Commands[K]['input'], context: Context) => Result<Output<K>, LeaseError>;
  /** How it answers a request that comes again under its key; without it, as it answered before. */
  replay?: Replay<Output<K>>;
}>;
