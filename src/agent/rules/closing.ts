import type { SetClass } from '../host/sets.ts';
import { drop, isIn, sourceBlock } from './words.ts';

/**
 * From a port whose lease ends. A connection begins with SYN, in either direction and with or without data (Fast Open);
 * without it a packet belongs to what was there before. UDP and echo have nothing that could drain.
 */
export function closingRules(each: SetClass, by: string): readonly string[] {
  const matches = isIn(each, `${sourceBlock(each)} . ${by}`);
  const shut = drop('guard_ending');
  if (each.protocol === 'tcp') return [`${matches} tcp flags & syn != 0 ${shut}`, `${matches} accept`];
  return [`${matches} ${shut}`];
}
