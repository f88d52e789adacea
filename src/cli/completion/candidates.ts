import type { Command, Entry } from '../command.ts';
import { clientOf, connectionSettings } from '../connection.ts';
import { flagsOf } from '../help.ts';
import { configOf } from '../program.ts';
import type { Environment } from '../../ops/settings.ts';
import { resolveSettings } from '../../ops/settings.ts';
import { FisheryError } from '../../sdk/index.ts';
import { namesOf } from './names.ts';

/** What may stand where the cursor is. `'files'`: a path, which the shell knows better. */
export type Candidates = readonly Candidate[] | 'files';
export type Candidate = Readonly<{ word: string; description: string }>;

/** Somebody waits with a finger on the key. */
const answer_timeout_s = 1;

/**
 * The candidates for the last of `words`, which are those after `fishery` up to the cursor. Names and identifiers come
 * from the server; when it cannot be asked there are none.
 */
export async function candidatesFor(
  words: readonly string[],
  entries: readonly Entry[],
  env: Environment,
): Promise<Candidates> {
  const current = words.at(-1) ?? '';
  const all = await allCandidates(words.slice(0, -1), current, entries, env);
  return all === 'files' ? all : all.filter(({ word }) => word.startsWith(current));
}

async function allCandidates(
  before: readonly string[],
  current: string,
  entries: readonly Entry[],
  env: Environment,
): Promise<Candidates> {
  const [first, second, ...more] = before;
  if (first === undefined) return entries.filter(({ isHidden }) => isHidden !== true).map(candidateOf);
  const entry = entries.find(({ name }) => name === first);
  if (entry === undefined) return [];
  if ('load' in entry) return ofCommand(await entry.load(), before.slice(1), current, env);
  const verbs = await entry.verbs();
  if (second === undefined) return verbs.map(candidateOf);
  const verb = verbs.find(({ name }) => name === second);
  return verb === undefined ? [] : ofCommand(await verb.load(), more, current, env);
}

const candidateOf = ({ name, summary }: Readonly<{ name: string; summary: string }>): Candidate => ({
  word: name,
  description: summary,
});

async function ofCommand(
  command: Command,
  before: readonly string[],
  current: string,
  env: Environment,
): Promise<Candidates> {
  const fields = flagsOf(command)
    .map(({ field }) => field)
    .filter(({ kind }) => kind !== 'file-only');
  const flags = command.profiled ? [...fields, profileFlag, configFlag] : [...fields, configFlag];
  const values: Record<string, string> = {};
  const positionals: string[] = [];
  let open: (typeof flags)[number] | undefined;
  for (const word of before) {
    if (open) {
      values[open.key] = word;
      open = undefined;
    } else if (word.startsWith('--')) open = flags.find(({ flag, kind }) => flag === word && kind !== 'boolean');
    else positionals.push(word);
  }
  const known = {
    ...Object.fromEntries(positionals.map((word, index) => [argumentAt(command, index), word])),
    ...values,
  };
  if (open) return open.choices.length > 0 ? plain(open.choices) : valuesOf(open.key, command, known, env);
  if (current.startsWith('-'))
    return flags
      .filter(({ flag, kind }) => kind === 'list' || !before.includes(flag))
      .map(({ flag, description }) => ({ word: flag, description }));
  const positional = command.positionals?.[positionals.length];
  if (positional === undefined) return [];
  return positional.choices ? plain(positional.choices) : valuesOf(positional.name, command, known, env);
}

const profileFlag = {
  key: 'profile',
  flag: '--profile',
  kind: 'text',
  choices: [],
  description: 'Which profile',
} as const;
const configFlag = {
  key: 'config',
  flag: '--config',
  kind: 'text',
  choices: [],
  description: 'File of settings',
} as const;

const argumentAt = (command: Command, index: number): string => command.positionals?.[index]?.name ?? '';
const plain = (words: readonly string[]): readonly Candidate[] => words.map((word) => ({ word, description: '' }));

/** What a flag or an argument of this name may be. */
async function valuesOf(
  name: string,
  command: Command,
  known: Readonly<Record<string, string>>,
  env: Environment,
): Promise<Candidates> {
  if (name === 'config' || /(?:^|_)(?:file|dir)$/.test(name)) return 'files';
  const names = namesOf(name);
  if (names === undefined || !command.profiled) return [];
  const config = configOf(command, '', [], known, env);
  if (!config.ok) return [];
  const flags = Object.fromEntries(Object.entries(known).filter(([key]) => key in connectionSettings.shape));
  const settings = resolveSettings(connectionSettings, { flags, env, file: config.value });
  if (!settings.ok) return [];
  const client = clientOf({ ...settings.value, timeout_s: answer_timeout_s }, env, { attemptsMax: 1 });
  if (typeof client === 'string') return [];
  try {
    return plain(await names(client, known));
  } catch (thrown) {
    // A shell that waits for a word is no place for an error.
    if (thrown instanceof FisheryError) return [];
    throw thrown;
  }
}
