import { readFileSync, statSync } from 'node:fs';
import { isMap, isNode, isScalar, LineCounter, parseDocument, type Document, type Node } from 'yaml';

/** One subcommand's part of a configuration file, and the name to show when something in it is wrong. */
export type ConfigSection = Readonly<{
  file: string;
  section: string;
  values: Readonly<Record<string, unknown>>;
  /** The line, from 1, of a value of the section, or of what it is in; undefined where that cannot be told. */
  lineOf?: (path: readonly PropertyKey[]) => number | undefined;
}>;
export type ConfigSectionRead = Readonly<{ ok: true; value: ConfigSection } | { ok: false; problem: string }>;

/** Far above any real configuration; keeps a wrong path (a disk image, a log) from being read into memory. */
const config_bytes_max = 1_048_576;

type Mapping = Readonly<Record<string, unknown>>;
type LineOf = (path: readonly PropertyKey[]) => number | undefined;
type MappingRead = Readonly<{ ok: true; value: Mapping; lineOf: LineOf } | { ok: false; problem: string }>;

/**
 * Reads the section of one subcommand from a YAML or JSON file (JSON is YAML). A missing section is empty; a section
 * that belongs to no subcommand is a problem, because it is usually a typing mistake. `sections` are all there are.
 */
export function readConfigSection(file: string, section: string, sections: readonly string[]): ConfigSectionRead {
  const read = readMapping(file, sections);
  if (!read.ok) return read;
  const values = read.value[section] ?? {};
  if (!isMapping(values)) return problemIn(file, `expected "${section}" to be a mapping of settings`);
  return { ok: true, value: { file, section, values, lineOf: (path) => read.lineOf([section, ...path]) } };
}

/**
 * Reads one of the profiles in the same file: settings for talking to one of several servers.
 *
 * ```yaml
 * profile: lab # the one that is meant when nobody names one
 * profiles:
 *   lab: { server: 'http://127.0.0.1:7480', token_file: /etc/fishery/operator.token }
 * ```
 *
 * Without a name, and without one in the file, it is empty.
 */
export function readProfile(file: string, name: string | undefined, sections: readonly string[]): ConfigSectionRead {
  const read = readMapping(file, sections);
  if (!read.ok) return read;
  const { profile = null, profiles = {} } = read.value;
  if (!isMapping(profiles)) return problemIn(file, 'expected "profiles" to be a mapping of names to settings');
  if (profile !== null && typeof profile !== 'string') return problemIn(file, 'expected "profile" to be a name');
  const wanted = name ?? profile;
  if (wanted === null) return { ok: true, value: { file, section: 'profiles', values: {} } };
  const values = Object.hasOwn(profiles, wanted) ? profiles[wanted] : undefined;
  const known = Object.keys(profiles).join(', ');
  if (values === undefined)
    return problemIn(file, `has no profile "${wanted}"${known && `, expected one of: ${known}`}`);
  if (!isMapping(values)) return problemIn(file, `expected "profiles.${wanted}" to be a mapping of settings`);
  const lineOf: LineOf = (path) => read.lineOf(['profiles', wanted, ...path]);
  return { ok: true, value: { file, section: `profiles.${wanted}`, values, lineOf } };
}

const problemIn = (file: string, text: string) => ({ ok: false, problem: `config file ${file}: ${text}` }) as const;

function readMapping(file: string, sections: readonly string[]): MappingRead {
  const problem = (text: string) => problemIn(file, text);
  let text: string;
  try {
    const { size } = statSync(file);
    if (size > config_bytes_max) return problem(`is ${size} bytes, expected at most ${config_bytes_max}`);
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    return problem(`cannot be read (${reasonOf(cause)})`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [flaw] = document.errors;
  if (flaw) return problem(`is not valid YAML or JSON: ${flaw.message.split('\n', 1)[0] ?? flaw.code}`);
  let root: unknown;
  try {
    root = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (cause) {
    return problem(`is not valid YAML or JSON: ${reasonOf(cause)}`);
  }
  if (!isMapping(root)) return problem(`expected a mapping with sections (${sections.join(', ')})`);
  const known = [...sections, 'profile', 'profiles'];
  for (const name of Object.keys(root))
    if (!known.includes(name))
      return problem(
        `${atLine(lineIn(document, lines, [name]))}has no use for "${name}", expected one of: ${known.join(', ')}`,
      );
  return { ok: true, value: root, lineOf: (path) => lineIn(document, lines, path) };
}

const atLine = (line: number | undefined): string => (line === undefined ? '' : `line ${line}: `);

/** The key of an entry, where a value that is a mapping begins on a later line. */
function nodeAt(document: Document, path: readonly PropertyKey[]): Node | undefined {
  const parent: unknown = path.length > 1 ? document.getIn(path.slice(0, -1), true) : document.contents;
  const pair = isMap(parent) ? parent.items.find(({ key }) => isScalar(key) && key.value === path.at(-1)) : undefined;
  const node: unknown = pair ? pair.key : document.getIn(path, true);
  return isNode(node) ? node : undefined;
}

/** Of the node at a path, or of the nearest above it that is there. */
function lineIn(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const node = nodeAt(document, path.slice(0, length));
    if (node?.range) return lines.linePos(node.range[0]).line;
  }
  return undefined;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of the path is not a directory',
};

/** A file system error in words, for a person who did not ask for a stack trace. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  return ('code' in cause && reasons[String(cause.code)]) || cause.message;
}
