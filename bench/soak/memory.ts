import { readFileSync } from 'node:fs';
import { median } from '../figures.ts';

/** Bytes of one process at one time. */
export type Sample = Readonly<{
  /** Resident and its own: the flow table, which the keeper shares, is not part of it. */
  resident: number;
  /** JavaScript objects of fish's thread. */
  heap: number;
}>;

export function residentOwnBytes(pid: number): number {
  const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1_024;
}

/** By how much the last third of the samples lies above the first: medians, so that one sample more or less says nothing. */
export function growthOf(samples: readonly number[]): number {
  const third = Math.floor(samples.length / 3);
  if (third === 0) throw new Error(`${samples.length} samples tell nothing about growth`);
  return median(samples.slice(-third)) - median(samples.slice(0, third));
}
