import { formatPorts } from '../../net/ports.ts';

/** Text that a server sent must not steer the terminal that it is shown on. */
// eslint-disable-next-line no-control-regex -- these are what is looked for
const controls = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
export const harmless = (text: string): string =>
  text.replaceAll(controls, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

const instant = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z$/;

type Plain = string | number | boolean | null | undefined;
const isPlain = (value: unknown): value is Plain => value == null || typeof value !== 'object';

/** A value in a few words, when it has a short form: plain ones, lists and mappings of those, ranges of ports. */
export function inWords(value: unknown): string | undefined {
  if (value === null || value === undefined || value === '') return '-';
  if (isPlain(value)) return harmless(String(value));
  if (Array.isArray(value))
    return value.every(isPlain) ? value.map((item) => inWords(item)).join(', ') || '-' : undefined;
  const entries = Object.entries(value);
  const { first, last }: { first?: unknown; last?: unknown } = value;
  if (typeof first === 'number' && typeof last === 'number' && entries.length === 2)
    return formatPorts({ first, last });
  if (!entries.every(([, inner]) => isPlain(inner))) return undefined;
  return (
    entries.map(([key, inner]) => `${harmless(key)}=${inner == null ? '-' : harmless(String(inner))}`).join(', ') || '-'
  );
}

/** One cell of a table: instants to the second, what has no short form as JSON. */
export function cellOf(value: unknown): string {
  if (typeof value === 'string') {
    const seconds = instant.exec(value)?.[1];
    if (seconds !== undefined) return `${seconds}Z`;
  }
  return inWords(value) ?? harmless(JSON.stringify(value));
}
