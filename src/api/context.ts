import type { DenialLog } from './denial-log.ts';
import type { Denials } from './denials.ts';
import type { Epochs } from './epochs.ts';
import type { Forwarding } from './forwarding.ts';
import type { FlowQueries } from './flow-queries.ts';
import type { Instruments } from './metrics/instruments.ts';
import type { Parts } from './parts.ts';
import type { RateLimits } from './rate-limits.ts';
import type { TokenCache } from './token-cache.ts';
import type { TokenUses } from './token-uses.ts';
import type { Watchers } from './watchers.ts';

/** What the routes work with: the parts that were handed in, and what the app keeps in memory while it runs. */
export type Context = Parts &
  Readonly<{
    tokens: TokenCache;
    uses: TokenUses;
    rates: RateLimits;
    denials: Denials;
    instruments: Instruments;
    denialLog: DenialLog;
    epochs: Epochs;
    watchers: Watchers;
    flows: FlowQueries;
    forwarding: Forwarding;
    /** Aborted when the app begins to close: waits end, streams end, what was answered is durable. */
    stopping: AbortSignal;
  }>;
