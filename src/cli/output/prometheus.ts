/** One sample of the text format of Prometheus. */
export type Sample = Readonly<{ name: string; labels: Readonly<Record<string, string>>; value: number }>;

const line = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)(?: -?\d+)?$/;
const label = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)",?/g;
const escapes: Readonly<Record<string, string>> = { '\\n': '\n', '\\"': '"', '\\\\': '\\' };

/** The samples of a metrics page, in order; what is no sample is passed over. */
export function samplesOf(page: string): readonly Sample[] {
  return page.split('\n').flatMap((text) => {
    const [, name, labels = '', value] = line.exec(text) ?? [];
    if (name === undefined) return [];
    const pairs = [...labels.matchAll(label)].map(([, key = '', quoted = '']) => [
      key,
      quoted.replaceAll(/\\[n"\\]/g, (escape) => escapes[escape] ?? escape),
    ]);
    return [{ name, labels: Object.fromEntries(pairs) as Record<string, string>, value: numberOf(value) }];
  });
}

const numberOf = (text = ''): number => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));
