/**
 * The log of a broker's table begins at the microsecond at which it was made; the server's begins at 1, and is there in some
 * thousand years. So the number of a thing tells whose it is.
 */
const broker_numbers_min = 1e15;

/** `slice-42` → 42. */
export const numberOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1));

/** Whether a lease or a session of this name is of a broker, rather than of the server. */
export const isBrokers = (id: string): boolean => numberOf(id) >= broker_numbers_min;
