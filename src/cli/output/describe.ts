import { inWords } from './values.ts';

/** One thing with all that is known of it, a line for each member; what has parts of its own stands indented below. */
export function describe(value: unknown): string {
  return linesOf(value).join('\n');
}

function linesOf(value: unknown): readonly string[] {
  const words = inWords(value);
  if (typeof value !== 'object' || value === null) return [words ?? '-'];
  if (Array.isArray(value)) return words === undefined ? value.flatMap(itemLines) : [words];
  const members = Object.entries(value).filter(([, inner]) => inner !== undefined);
  const width = Math.max(0, ...members.map(([key]) => key.length));
  return members.flatMap(([key, inner]) => {
    const words = inWords(inner);
    const short = isMapping(inner) && words !== undefined && words.length > inline_characters_max ? undefined : words;
    return short === undefined
      ? [key, ...linesOf(inner).map((line) => `  ${line}`)]
      : [`${key.padEnd(width)}  ${short}`];
  });
}

/** A mapping that is longer is easier to read line by line. */
const inline_characters_max = 60;
const isMapping = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

/** An item of a list: its first line carries the dash. */
const itemLines = (item: unknown): readonly string[] =>
  linesOf(item).map((line, index) => `${index === 0 ? '- ' : '  '}${line}`);
