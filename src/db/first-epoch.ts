import type { Epoch } from '../leases/model.ts';

/** The epoch that a table is in when it is made: nothing was answered before, so nothing can be missing. */
export const firstEpoch = (id: string, at: number): Epoch => ({
  number: 1,
  id,
  cause: 'first',
  detail: 'the table was made',
  after: 0,
  from: 1,
  beganAt: at,
  confirmedAt: at,
  confirmedBy: null,
  revision: 0,
});
