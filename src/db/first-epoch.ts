import type { Epoch } from '../leases/model.ts';

/** The number of the first epoch, and the revision that the log begins with. */
export type Beginning = Readonly<{ epoch: number; revision: number }>;
const fromOne: Beginning = { epoch: 1, revision: 1 };

/** The epoch that a table is in when it is made: nothing was answered before, so nothing can be missing. */
export const firstEpoch = (id: string, at: number, begin: Beginning = fromOne): Epoch => ({
  number: begin.epoch,
  id,
  cause: 'first',
  detail: 'the table was made',
  after: 0,
  from: begin.revision,
  beganAt: at,
  confirmedAt: at,
  confirmedBy: null,
  revision: 0,
});
