import { broker_numbers_min } from '../leases/reported.ts';

/** `slice-42` → 42. */
export const numberOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1));

/** Whether a lease or a session of this name is of a broker, rather than of the server. */
export const isBrokers = (id: string): boolean => numberOf(id) >= broker_numbers_min;
