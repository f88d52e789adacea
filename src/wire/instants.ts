/** Microseconds since 1970 as a number (exact until the year 2255) ↔ RFC 3339 text in UTC with six decimals. */
export function formatInstant(us: number): string {
  const micros = us % 1_000_000;
  return `${new Date((us - micros) / 1_000).toISOString().slice(0, 19)}.${String(micros).padStart(6, '0')}Z`;
}

/** Any RFC 3339 text, with offset or Z and up to nine decimals (finer than a microsecond is cut off); NaN when it is none. */
export function parseInstant(text: string): number {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  const seconds = Date.parse(text.replace(/\.\d+/, ''));
  return seconds * 1_000 + Number(fraction.slice(0, 6).padEnd(6, '0'));
}
