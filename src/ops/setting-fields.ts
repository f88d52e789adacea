import { z } from 'zod';

/**
 * How a setting may be given. `file-only` is for what has parts of its own (objects, lists of objects): a command line
 * or an environment variable is no place for it.
 */
export type SettingKind = 'text' | 'number' | 'text-or-number' | 'boolean' | 'list' | 'file-only';

/** One key of a settings schema, as a person at a shell meets it. */
export type SettingField = Readonly<{
  /** The key in the schema and in the file: `data_dir`. */
  key: string;
  /** `--data-dir`. */
  flag: string;
  /** `FISHERY_DATA_DIR`. */
  env: string;
  kind: SettingKind;
  /** What the items of a `list` are. */
  itemKind: 'text' | 'number' | 'text-or-number';
  choices: readonly string[];
  description: string;
  /** Undefined where there is no default, or where it is empty and says nothing. */
  defaultText: string | undefined;
  required: boolean;
}>;

const keyPattern = /^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/;
/** `no_x` would collide with the flag that switches `x` off; the others mean something for every command. */
const isReserved = (key: string) => key.startsWith('no_') || ['config', 'help', 'version'].includes(key);

/** The part of JSON Schema that zod writes for the input side of a settings schema. */
type Json = Readonly<{
  $ref?: string;
  type?: string | readonly string[];
  enum?: readonly unknown[];
  const?: unknown;
  anyOf?: readonly Json[];
  items?: Json;
  description?: string;
  default?: unknown;
}>;

/** The fields of a settings schema, in its order. Throws on a key that could not be a flag: that is a bug. */
export function settingFields(schema: z.ZodObject): readonly SettingField[] {
  // JSON Schema is zod's public account of a schema: defaults, pipes and optionals are already unwrapped in it.
  const whole = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as {
    properties?: Record<string, Json>;
    required?: readonly string[];
    $defs?: Record<string, Json>;
  };
  const definitions = whole.$defs ?? {};
  return Object.entries(whole.properties ?? {}).map(([key, property]) => {
    if (!keyPattern.test(key)) throw new Error(`the setting "${key}" is not in snake_case`);
    if (isReserved(key)) throw new Error(`the setting "${key}" has a name that is taken`);
    const json = resolve(property, definitions);
    const kind = kindOf(json, definitions);
    return {
      key,
      flag: `--${key.replaceAll('_', '-')}`,
      env: `FISHERY_${key.toUpperCase()}`,
      kind,
      itemKind: kind === 'list' && json.items ? scalarKind(resolve(json.items, definitions), definitions) : 'text',
      choices: choicesOf(json.items && kind === 'list' ? resolve(json.items, definitions) : json, definitions),
      description: json.description ?? '',
      defaultText: defaultText(property.default ?? json.default),
      required: whole.required?.includes(key) ?? false,
    };
  });
}

/**
 * Names whose value belongs in no message and no log: the URL of a database has a password in it. A path to a secret
 * (`token_file`) is not a secret.
 */
export const isSecretKey = (key: string): boolean => /(?:^|_)(?:token|secret|password|database_url)$/.test(key);

function resolve(json: Json, definitions: Record<string, Json>): Json {
  const name = json.$ref?.replace('#/$defs/', '');
  const target = name === undefined ? undefined : definitions[name];
  return target ? { ...resolve(target, definitions), ...json } : json;
}

function typesOf(json: Json, definitions: Record<string, Json>): Set<string> {
  const own = typeof json.type === 'string' ? [json.type] : (json.type ?? []);
  const inner = (json.anyOf ?? []).flatMap((option) => [...typesOf(resolve(option, definitions), definitions)]);
  return new Set(
    [...own, ...inner].filter((type) => type !== 'null').map((type) => (type === 'integer' ? 'number' : type)),
  );
}

function scalarKind(json: Json, definitions: Record<string, Json>): 'text' | 'number' | 'text-or-number' {
  const types = typesOf(json, definitions);
  if (!types.has('number')) return 'text';
  return types.size === 1 ? 'number' : 'text-or-number';
}

function kindOf(json: Json, definitions: Record<string, Json>): SettingKind {
  const types = typesOf(json, definitions);
  if (types.has('object')) return 'file-only';
  if (types.has('array')) {
    const items = json.items ? typesOf(resolve(json.items, definitions), definitions) : new Set<string>();
    return types.size > 1 || items.has('object') || items.has('array') ? 'file-only' : 'list';
  }
  if (types.has('boolean')) return types.size === 1 ? 'boolean' : 'file-only';
  return scalarKind(json, definitions);
}

function choicesOf(json: Json, definitions: Record<string, Json>): readonly string[] {
  if (json.enum) return json.enum.map(String);
  const options = (json.anyOf ?? []).map((option) => resolve(option, definitions));
  return options.length > 0 && options.every((option) => option.const !== undefined)
    ? options.map((option) => String(option.const))
    : [];
}

function defaultText(value: unknown): string | undefined {
  if (Array.isArray(value) && value.every(isScalar)) return value.join(',') || undefined;
  return isScalar(value) ? String(value) || undefined : undefined;
}

const isScalar = (value: unknown): value is string | number | boolean =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
