import { readFileSync, statSync } from 'node:fs';
import type { z } from 'zod';
import { reasonOf, type ConfigSection } from './config-file.ts';
import { isSecretKey, settingFields, type SettingField } from './setting-fields.ts';
import { complaint } from './setting-problems.ts';

/** Every setting of a command is a key of one strict zod object; descriptions come from `.meta({ description })`. */
export type SettingsSchema = z.ZodObject;

/** What stood on the command line, by setting key: text as typed, all texts of a repeated flag, or on/off. */
export type FlagValues = Readonly<Record<string, string | readonly string[] | boolean | undefined>>;
export type Environment = Readonly<Record<string, string | undefined>>;

export type SettingsSources = Readonly<{
  flags?: FlagValues;
  /** With neither this nor a file, only flags can say anything, and messages name nothing else. */
  env?: Environment;
  file?: ConfigSection | undefined;
}>;

/** Either the settings, or every problem with them, one line each: source, what was given, what is expected. */
export type SettingsRead<S extends SettingsSchema> = Readonly<
  { ok: true; value: z.output<S> } | { ok: false; problems: readonly string[] }
>;

type Given = Readonly<{ value: unknown; source: string; lineOf?: ConfigSection['lineOf'] }>;

/**
 * Settings from flags, environment, file and defaults, in this precedence: a key that a stronger source names is not
 * looked for in a weaker one. An empty environment variable counts as absent.
 */
export function resolveSettings<S extends SettingsSchema>(schema: S, sources: SettingsSources): SettingsRead<S> {
  const fields = settingFields(schema);
  const problems = sources.file ? unknownKeys(sources.file, fields) : [];
  const given = new Map<string, Given>();
  for (const field of fields) {
    const found = fromFlag(field, sources.flags) ?? fromEnv(field, sources.env) ?? fromFile(field, sources.file);
    if (found) given.set(field.key, found);
  }
  const parsed = schema.safeParse(Object.fromEntries([...given].map(([key, { value }]) => [key, value])));
  if (parsed.success && problems.length === 0) return { ok: true, value: parsed.data };
  for (const issue of parsed.error?.issues ?? []) problems.push(describe(issue, fields, given, sources));
  return { ok: false, problems };
}

/** Larger than any key or certificate bundle; a bigger file was named by mistake. */
const secret_bytes_max = 65_536;

/**
 * Reads a secret that a setting names by its file (`token_file`). The newline that editors and `echo` leave at the end
 * is not part of it. The problem names the file and never its content.
 */
export function readSecretFile(file: string): Readonly<{ ok: true; value: string } | { ok: false; problem: string }> {
  try {
    if (statSync(file).size > secret_bytes_max)
      return { ok: false, problem: `${file}: too large for a secret, expected at most ${secret_bytes_max} bytes` };
    const value = readFileSync(file, 'utf8').trim();
    return value === '' ? { ok: false, problem: `${file}: is empty` } : { ok: true, value };
  } catch (cause) {
    return { ok: false, problem: `${file}: cannot be read (${reasonOf(cause)})` };
  }
}

function fromFlag(field: SettingField, flags: FlagValues = {}): Given | undefined {
  const raw = flags[field.key];
  if (raw === undefined) return undefined;
  const source = raw === false ? field.flag.replace('--', '--no-') : field.flag;
  if (typeof raw === 'boolean') return { value: raw, source };
  return {
    value: typeof raw === 'string' ? scalar(raw, field.kind) : raw.map((item) => scalar(item, field.itemKind)),
    source,
  };
}

function fromEnv(field: SettingField, env: Environment = {}): Given | undefined {
  const raw = env[field.env];
  if (raw === undefined || raw === '' || field.kind === 'file-only') return undefined;
  const items = () =>
    raw
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
  const value = field.kind === 'list' ? items().map((item) => scalar(item, field.itemKind)) : scalar(raw, field.kind);
  return { value, source: field.env };
}

function fromFile(field: SettingField, file: ConfigSection | undefined): Given | undefined {
  const value = file?.values[field.key];
  return value === undefined || file === undefined
    ? undefined
    : { value, source: `${file.section}.${field.key} in ${file.file}`, lineOf: file.lineOf };
}

const booleans: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  1: true,
  false: false,
  no: false,
  off: false,
  0: false,
};

/** Text to the value it spells; text that spells none stays text, and the schema then says what it expected. */
function scalar(text: string, kind: SettingField['kind']): unknown {
  const word = text.trim();
  if (kind === 'boolean') return booleans[word.toLowerCase()] ?? text;
  if ((kind === 'number' || kind === 'text-or-number') && /^[+-]?\d+(?:\.\d+)?$/.test(word)) return Number(word);
  return text;
}

function unknownKeys(file: ConfigSection, fields: readonly SettingField[]): string[] {
  const known = fields.map((field) => field.key);
  return Object.keys(file.values)
    .filter((key) => !known.includes(key))
    .map((key) => {
      const meant = key.toLowerCase().replaceAll('-', '_');
      const hint = known.includes(meant) ? `did you mean ${meant}?` : `expected one of: ${known.join(', ')}`;
      return `${file.section}.${key} in ${file.file}${lineText(file.lineOf?.([key]))}: is not a setting, ${hint}`;
    });
}

function describe(
  issue: z.core.$ZodIssue,
  fields: readonly SettingField[],
  given: ReadonlyMap<string, Given>,
  { env, file }: SettingsSources,
): string {
  const [key, ...inner] = issue.path;
  const field = fields.find((candidate) => candidate.key === key);
  if (!field) return issue.message;
  const found = given.get(field.key);
  if (!found && env === undefined && file === undefined) return `${field.flag} is required`;
  if (!found) {
    const where = file ? `${file.section}.${field.key} in ${file.file}` : `${field.key} in a config file`;
    const places = field.kind === 'file-only' ? where : `${field.flag}, ${field.env} or ${where}`;
    return `${field.key} is required: set ${places}`;
  }
  const at = inner.reduce<string>(
    (path, part) => path + (typeof part === 'number' ? `[${part}]` : `.${String(part)}`),
    '',
  );
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const line = lineText(found.lineOf?.([field.key, ...inner, ...unknown]));
  return `${found.source}${line}${at && ` (at ${field.key}${at})`}: got ${shown(field, valueAt(found.value, inner))}${complaint(issue)}`;
}

/** `fishery.yaml:12`, as compilers and editors write it. */
const lineText = (line: number | undefined): string => (line === undefined ? '' : `:${line}`);

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (part, key) => (typeof part === 'object' && part !== null ? Reflect.get(part, key) : undefined),
    value,
  );
}

const shown_characters_max = 200;

function shown(field: SettingField, value: unknown): string {
  if (isSecretKey(field.key)) return 'a value that is not shown';
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > shown_characters_max ? `${text.slice(0, shown_characters_max)}…` : text;
}
