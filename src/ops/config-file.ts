import { readFileSync, statSync } from 'node:fs';
import { parseDocument } from 'yaml';

/** One subcommand's part of a configuration file, and the name to show when something in it is wrong. */
export type ConfigSection = Readonly<{ file: string; section: string; values: Readonly<Record<string, unknown>> }>;
export type ConfigSectionRead = Readonly<{ ok: true; value: ConfigSection } | { ok: false; problem: string }>;

/** Far above any real configuration; keeps a wrong path (a disk image, a log) from being read into memory. */
const config_bytes_max = 1_048_576;

/**
 * Reads the section of one subcommand from a YAML or JSON file (JSON is YAML). A missing section is empty; a section
 * that belongs to no subcommand is a problem, because it is usually a typing mistake. `sections` are all there are.
 */
export function readConfigSection(file: string, section: string, sections: readonly string[]): ConfigSectionRead {
  const problem = (text: string): ConfigSectionRead => ({ ok: false, problem: `config file ${file}: ${text}` });
  let text: string;
  try {
    const { size } = statSync(file);
    if (size > config_bytes_max) return problem(`is ${size} bytes, expected at most ${config_bytes_max}`);
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    return problem(`cannot be read (${reasonOf(cause)})`);
  }
  const document = parseDocument(text);
  const [flaw] = document.errors;
  if (flaw) return problem(`is not valid YAML or JSON: ${flaw.message.split('\n', 1)[0] ?? flaw.code}`);
  let root: unknown;
  try {
    root = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (cause) {
    return problem(`is not valid YAML or JSON: ${reasonOf(cause)}`);
  }
  if (!isMapping(root)) return problem(`expected a mapping with sections (${sections.join(', ')})`);
  for (const name of Object.keys(root))
    if (!sections.includes(name)) return problem(`has no use for "${name}", expected one of: ${sections.join(', ')}`);
  const values = root[section] ?? {};
  if (!isMapping(values)) return problem(`expected "${section}" to be a mapping of settings`);
  return { ok: true, value: { file, section, values } };
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
