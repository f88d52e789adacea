import { getRandomValues } from 'node:crypto';

/** Unforeseeable 32-bit numbers, drawn from the system 256 at a time: one alone costs a microsecond. */
export function randomNumbers(): () => number {
  const drawn = new Uint32Array(256);
  let next = drawn.length;
  return () => {
    if (next === drawn.length) {
      getRandomValues(drawn);
      next = 0;
    }
    // next has just been made smaller than the length if it was not.
    return drawn[next++]!;
  };
}
