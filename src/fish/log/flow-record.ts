import type { TupleText } from '../flows/flow-tuple.ts';

/** Why a flow ended: both FINs acknowledged, a plausible RST, silence, its ports taken back, or the server silent for too long. */
export const endings = ['finished', 'reset', 'idle', 'lease_ended', 'fenced'] as const;
export type Ending = (typeof endings)[number];

/**
 * What a record may say: also, of connections that a process carries on, that the remote was not reached (no connection came about),
 * and that the process ended.
 */
export const recordedEndings = [...endings, 'not_connected', 'cut'] as const;
export type RecordedEnding = (typeof recordedEndings)[number];

/** One use of a leased tuple by a client. Instants are microseconds since 1970. */
export type FlowRecord = TupleText &
  Readonly<{
    lease: string;
    openedAt: number;
    /** null while it lasts. */
    closedAt: number | null;
    ending: RecordedEnding | null;
  }>;
