import { blockMask } from '../../net/ports.ts';
import { setName, type SetClass } from '../host/sets.ts';
import type { CounterName } from './counters.ts';
import { hex32, ip } from './words.ts';

export const toFish = (reason: CounterName): string => `counter name "${reason}" goto to_fish`;

/** 32 bits that end with the port: the only way to give direct and quoted ports the same type, and so the same set. */
export const lookUp = (each: SetClass, portAt: number): string =>
  `${ip(each.family)} daddr . @th,${portAt - 16},32 & ${hex32(blockMask(each.size))} @${setName(each)}`;
