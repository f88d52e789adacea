import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command as Program, CommanderError, Option } from 'commander';
import { readConfigSection, readProfile, type ConfigSection } from '../ops/config-file.ts';
import { resolveSettings, type Environment, type FlagValues } from '../ops/settings.ts';
import { exitCodes, type Command, type CommandEntry, type Entry } from './command.ts';
import { describeCommand, flagsOf, footer, type Flag } from './help.ts';
import { withoutHandedDown } from './hold/environment.ts';
import type { Terminal } from './terminal.ts';

/** Where a program writes and what it sees of its surroundings; tests hand in their own. */
export type ProgramHost = Readonly<{
  env: Environment;
  /** As `process.versions.node`. */
  nodeVersion: string;
  writeOut: (text: string) => void;
  writeErr: (text: string) => void;
  terminal: Terminal;
}>;

/**
 * Runs what `argv` (without the interpreter and the script) asks for and returns the exit code. Wrong usage is told in
 * one line per problem on standard error; only an unexpected exception shows a stack.
 */
export async function runProgram(
  entries: readonly Entry[],
  version: string,
  argv: readonly string[],
  host: ProgramHost,
): Promise<number> {
  const separator = argv.indexOf('--');
  const before = separator < 0 ? [...argv] : argv.slice(0, separator);
  const rest = separator < 0 ? undefined : argv.slice(separator + 1);
  // What is meant are the first words that are no flags: `fishery` itself and its groups have none with values.
  const [word, verb] = before.filter((argument) => !argument.startsWith('-'));
  const sections = entries.map(({ name }) => name);

  const program = newProgram('', host)
    .usage('<command> [flags]')
    .description('Control plane and on-host agent for soft-unicast egress.')
    .version(`fishery ${version}`, '-V, --version', 'Print the version')
    .addHelpText('after', footer);
  let exitCode: number = exitCodes.usage;
  const prepare = async (sub: Program, entry: CommandEntry, name: string): Promise<void> => {
    if (Number.parseInt(host.nodeVersion) < (entry.nodeMajorMin ?? 0))
      throw new UnfitRuntime(`${name}: needs Node.js ${entry.nodeMajorMin} or newer, this is ${host.nodeVersion}`);
    const command = await entry.load();
    const flags = flagsOf(command);
    describeCommand(sub, command, flags);
    sub.action(async () => {
      exitCode = await callCommand({ name, sections, command, flags, sub, rest, host });
    });
  };
  try {
    for (const entry of entries) {
      const sub = newProgram(entry.name, host).description(entry.summary);
      program.addCommand(sub, { hidden: entry.isHidden === true });
      if (entry.name !== word) continue;
      if ('load' in entry) {
        await prepare(sub, entry, entry.name);
        continue;
      }
      sub.usage('<verb> [flags]');
      for (const inner of await entry.verbs()) {
        const name = `${entry.name} ${inner.name}`;
        const innerSub = newProgram(inner.name, host, name).description(inner.summary);
        sub.addCommand(innerSub);
        if (inner.name === verb) await prepare(innerSub, inner, name);
      }
    }
    await program.parseAsync(before, { from: 'user' });
    return exitCode;
  } catch (cause) {
    // Commander throws for --help and --version (code 0) as for wrong usage, which it has already explained.
    if (cause instanceof CommanderError) return cause.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    const text = cause instanceof UnfitRuntime ? cause.message : cause instanceof Error ? cause.stack : undefined;
    host.writeErr(`fishery${cause instanceof UnfitRuntime ? ' ' : ': '}${text ?? String(cause)}\n`);
    return exitCodes.failure;
  }
}

class UnfitRuntime extends Error {}

/** `path` is all the words that lead to it. */
function newProgram(name: string, host: ProgramHost, path = name): Program {
  const title = `fishery${path && ` ${path}`}`;
  return new Program(name || 'fishery')
    .exitOverride()
    .helpCommand(false)
    .helpOption('-h, --help', 'Show this help')
    .showHelpAfterError(`(see: ${title} --help)`)
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: host.writeOut,
      writeErr: host.writeErr,
      outputError: (text, write) => write(text.replace(/^error: /, `${title}: `)),
    });
}

type Call = Readonly<{
  name: string;
  sections: readonly string[];
  command: Command;
  flags: readonly Flag[];
  sub: Program;
  rest: readonly string[] | undefined;
  host: ProgramHost;
}>;

async function callCommand({ name, sections, command, flags, sub, rest, host }: Call): Promise<number> {
  const env = withoutHandedDown(host.env);
  const complain = (line: string) => host.writeErr(`fishery ${name}: ${line}\n`);
  const usage = (lines: readonly string[]) => {
    for (const line of lines) complain(line);
    return exitCodes.usage;
  };
  const positionals = Object.fromEntries(
    (command.positionals ?? []).flatMap((positional, index) => {
      const value = sub.args[index];
      return value === undefined ? [] : [[positional.name, value] as const];
    }),
  );
  for (const { name: which, choices } of command.positionals ?? []) {
    const value = positionals[which];
    if (value !== undefined && choices && !choices.includes(value))
      return usage([`${which}: got "${value}", expected one of: ${choices.join(', ')}`]);
  }
  if (rest && !command.rest) return usage(['takes nothing after --']);
  if (command.rest?.required && !rest?.length) return usage([`expected ${command.rest.description} after --`]);

  const options: Record<string, string | string[] | boolean | undefined> = sub.opts();
  const values: FlagValues = Object.fromEntries(
    flags.map(({ field }) => [field.key, options[new Option(field.flag).attributeName()]]),
  );
  const file = flags.some(({ isSetting }) => isSetting) ? configOf(command, name, sections, options, env) : none;
  if (!file.ok) return usage([file.problem]);
  const settings = resolveSettings(command.settings, { flags: values, env, file: file.value });
  const own = command.flags && resolveSettings(command.flags, { flags: values });
  const problems = [settings, own].flatMap((read) => (read && !read.ok ? read.problems : []));
  if (!settings.ok || (own && !own.ok)) return usage(problems);
  return command.run(
    { ...settings.value, ...(own?.value ?? {}) },
    {
      env,
      positionals,
      rest: rest ?? [],
      print: (line) => host.writeOut(`${line}\n`),
      complain,
      terminal: host.terminal,
    },
  );
}

const none = { ok: true, value: undefined } as const;
type Config = Readonly<{ ok: true; value: ConfigSection | undefined } | { ok: false; problem: string }>;

/** What the configuration file says to this command: its section, or the profile that is meant. */
export function configOf(
  command: Command,
  name: string,
  sections: readonly string[],
  options: Readonly<Record<string, unknown>>,
  env: Environment,
): Config {
  const given = (flag: string, variable: string) =>
    typeof options[flag] === 'string' ? options[flag] : env[variable] || undefined;
  const path = given('config', 'FISHERY_CONFIG');
  if (!command.profiled) return path === undefined ? none : readConfigSection(path, command.section ?? name, sections);
  const profile = given('profile', 'FISHERY_PROFILE');
  const usual = join(env['XDG_CONFIG_HOME'] || join(env['HOME'] ?? '.', '.config'), 'fishery', 'config.yaml');
  if (path !== undefined || existsSync(usual)) return readProfile(path ?? usual, profile, sections);
  return profile === undefined ? none : { ok: false, problem: `profile "${profile}": there is no file ${usual}` };
}
