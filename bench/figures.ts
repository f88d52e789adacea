/** One measured figure, as `--json` prints it: a line each. */
export type Figure = Readonly<{
  name: string;
  value: number;
  unit: string;
  /** What it was measured against in the same run, and what that one reached; null where the figure stands for itself. */
  peer: Readonly<{ name: string; value: number; unit: string }> | null;
  rounds: number;
  /** The lowest and the highest of the rounds. */
  range: readonly [number, number];
}>;

/** The middle one; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new Error('the median of nothing');
  return (lower + upper) / 2;
}

/** The value below which `share` (0 to 1) of the values lie, by the nearest rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const found = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (found === undefined) throw new Error('a percentile of nothing');
  return found;
}

export const rangeOf = (values: readonly number[]): readonly [number, number] => [
  Math.min(...values),
  Math.max(...values),
];

/** A figure that is the median of its rounds. */
export const figureOf = (
  name: string,
  unit: string,
  values: readonly number[],
  peer: Figure['peer'] = null,
): Figure => ({
  name,
  value: median(values),
  unit,
  peer,
  rounds: values.length,
  range: rangeOf(values),
});

type Sides<T> = Readonly<{ subject: readonly T[]; peer: readonly T[] }>;

/**
 * Measures two sides in turn, first one ahead and then the other, so that a machine that slows down or speeds up in the
 * course of it does so to both.
 */
export async function inTurn<T>(
  rounds: number,
  sides: Readonly<{ subject: (round: number) => Promise<T>; peer: (round: number) => Promise<T> }>,
): Promise<Sides<T>> {
  const subject: T[] = [];
  const peer: T[] = [];
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 0) subject.push(await sides.subject(round));
    peer.push(await sides.peer(round));
    if (round % 2 === 1) subject.push(await sides.subject(round));
  }
  return { subject, peer };
}

/** Subject ÷ peer, round by round. */
export function ratioFigure(
  name: string,
  sides: Sides<number>,
  peer: Readonly<{ name: string; unit: string }>,
): Figure {
  const ratios = sides.subject.map((value, round) => value / (sides.peer[round] ?? Number.NaN));
  return figureOf(name, 'ratio', ratios, { ...peer, value: median(sides.peer) });
}

/** Three significant digits are what a measurement on a shared machine is worth. */
export const rounded = (value: number): number => Number(value.toPrecision(3));
