/**
 * What a client makes of a media type (RFC 9110, section 12.5.1): its weight, by the most specific of the ranges that it
 * gave; 0 where it does not want it.
 */
export function weightOf(accept: string | undefined, type: string): number {
  if (accept === undefined || accept.trim() === '') return 1;
  const given = accept.split(',').map((part) => part.trim().toLowerCase().split(';'));
  for (const range of [type, `${type.split('/')[0] ?? ''}/*`, '*/*']) {
    const match = given.find(([name]) => name?.trim() === range);
    if (match === undefined) continue;
    const weights = match.slice(1).map((parameter) => /^\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*$/.exec(parameter)?.[1]);
    return Number(weights.find((weight) => weight !== undefined) ?? 1);
  }
  return 0;
}

/** Of these types, in the order in which the server would choose, the one that the client wants most; undefined: none. */
export function preferredOf<T extends string>(accept: string | undefined, types: readonly T[]): T | undefined {
  let best: T | undefined;
  for (const type of types) {
    const weight = weightOf(accept, type);
    if (weight > (best === undefined ? 0 : weightOf(accept, best))) best = type;
  }
  return best;
}
