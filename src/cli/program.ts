import { Command as Program, CommanderError, Option } from 'commander';
import { readConfigSection, type ConfigSection } from '../ops/config-file.ts';
import { settingFields, type SettingField } from '../ops/setting-fields.ts';
import { resolveSettings, type Environment, type FlagValues } from '../ops/settings.ts';
import { exitCodes, type Command, type CommandEntry } from './command.ts';

/** Where a program writes and what it sees of its surroundings; tests hand in their own. */
export type ProgramHost = Readonly<{
  env: Environment;
  /** As `process.versions.node`. */
  nodeVersion: string;
  writeOut: (text: string) => void;
  writeErr: (text: string) => void;
}>;

const footer = `
Settings come from flags, else the environment, else the file named by --config, else their defaults.
Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.`;

/**
 * Runs what `argv` (without the interpreter and the script) asks for and returns the exit code. Wrong usage is told in
 * one line per problem on standard error; only an unexpected exception shows a stack.
 */
export async function runProgram(
  entries: readonly CommandEntry[],
  version: string,
  argv: readonly string[],
  host: ProgramHost,
): Promise<number> {
  const separator = argv.indexOf('--');
  const before = separator < 0 ? [...argv] : argv.slice(0, separator);
  const rest = separator < 0 ? undefined : argv.slice(separator + 1);
  const wanted = wantedEntry(entries, before);

  const program = newProgram('fishery', host)
    .usage('<command> [flags]')
    .description('Control plane and on-host agent for soft-unicast egress.')
    .version(`fishery ${version}`, '-V, --version', 'Print the version')
    .addHelpText('after', footer);
  let exitCode: number = exitCodes.usage;
  try {
    for (const entry of entries) {
      const sub = newProgram(entry.name, host).description(entry.summary);
      program.addCommand(sub);
      if (entry !== wanted) continue;
      if (Number.parseInt(host.nodeVersion) < (entry.nodeMajorMin ?? 0)) {
        host.writeErr(
          `fishery ${entry.name}: needs Node.js ${entry.nodeMajorMin} or newer, this is ${host.nodeVersion}\n`,
        );
        return exitCodes.failure;
      }
      const command = await entry.load();
      const fields = settingFields(command.settings);
      describeCommand(sub, command, fields);
      sub.action(async () => {
        exitCode = await callCommand({ entry, entries, command, fields, sub, rest, host });
      });
    }
    await program.parseAsync(before, { from: 'user' });
    return exitCode;
  } catch (cause) {
    // Commander throws for --help and --version (code 0) as for wrong usage, which it has already explained.
    if (cause instanceof CommanderError) return cause.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    host.writeErr(`fishery: ${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}\n`);
    return exitCodes.failure;
  }
}

function newProgram(name: string, host: ProgramHost): Program {
  return new Program(name)
    .exitOverride()
    .helpCommand(false)
    .showHelpAfterError(`(see: fishery ${name === 'fishery' ? '' : `${name} `}--help)`)
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: host.writeOut,
      writeErr: host.writeErr,
      outputError: (text, write) =>
        write(text.replace(/^error: /, name === 'fishery' ? 'fishery: ' : `fishery ${name}: `)),
    });
}

/** The command that is meant: the first word that is no flag, which for `fishery` itself takes no values. */
function wantedEntry(entries: readonly CommandEntry[], argv: readonly string[]): CommandEntry | undefined {
  const word = argv.find((argument) => !argument.startsWith('-'));
  return entries.find((entry) => entry.name === word);
}

function describeCommand(sub: Program, command: Command, fields: readonly SettingField[]): void {
  for (const positional of command.positionals ?? []) {
    const choices = positional.choices ? ` (one of: ${positional.choices.join(', ')})` : '';
    sub.argument(
      positional.required ? `<${positional.name}>` : `[${positional.name}]`,
      positional.description + choices,
    );
  }
  sub.allowExcessArguments(false);
  for (const field of fields) for (const option of optionsOf(field)) sub.addOption(option);
  if (fields.length > 0)
    sub.addOption(new Option('--config <file>', 'YAML or JSON file with a section per command [FISHERY_CONFIG]'));
  const positionals = (command.positionals ?? []).map(({ name, required }) => (required ? ` <${name}>` : ` [${name}]`));
  sub.usage('[flags]' + positionals.join('') + (command.rest ? ` -- <${command.rest.name}...>` : ''));
  sub.addHelpText('after', () => afterHelp(command, fields));
}

const offFlag = (field: SettingField) => field.flag.replace('--', '--no-');

function optionsOf(field: SettingField): readonly Option[] {
  if (field.kind === 'file-only') return [];
  const facts = [
    field.env,
    ...(field.kind === 'list' ? ['may be repeated'] : []),
    ...(field.kind === 'boolean' ? [`off: ${offFlag(field)}`] : []),
    ...(field.required ? ['required'] : []),
    ...(field.defaultText === undefined ? [] : [`default ${field.defaultText}`]),
  ];
  const text = `${field.description} [${facts.join(', ')}]`.trimStart();
  if (field.kind === 'boolean') return [new Option(field.flag, text), new Option(offFlag(field)).hideHelp()];
  const placeholder =
    field.choices.length > 0 ? field.choices.join('|') : field.kind === 'list' ? field.itemKind : field.kind;
  const option = new Option(`${field.flag} <${placeholder.replaceAll('-or-', '|')}>`, text);
  return [field.kind === 'list' ? option.argParser((value, sofar?: string[]) => [...(sofar ?? []), value]) : option];
}

function afterHelp(command: Command, fields: readonly SettingField[]): string {
  const onlyInFile = fields.filter((field) => field.kind === 'file-only');
  const parts = [
    ...(command.rest ? [`After --: ${command.rest.description}`] : []),
    ...(onlyInFile.length > 0
      ? ['Only in the file:\n' + onlyInFile.map((field) => `  ${field.key}  ${field.description}`).join('\n')]
      : []),
    ...(command.details === undefined ? [] : [command.details]),
    footer.trim(),
  ];
  return '\n' + parts.join('\n\n');
}

type Call = Readonly<{
  entry: CommandEntry;
  entries: readonly CommandEntry[];
  command: Command;
  fields: readonly SettingField[];
  sub: Program;
  rest: readonly string[] | undefined;
  host: ProgramHost;
}>;

async function callCommand({ entry, entries, command, fields, sub, rest, host }: Call): Promise<number> {
  const complain = (line: string) => host.writeErr(`fishery ${entry.name}: ${line}\n`);
  const usage = (lines: readonly string[]) => {
    for (const line of lines) complain(line);
    return exitCodes.usage;
  };
  const positionals = Object.fromEntries(
    (command.positionals ?? []).flatMap(({ name }, index) => {
      const value = sub.args[index];
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
  for (const { name, choices } of command.positionals ?? []) {
    const value = positionals[name];
    if (value !== undefined && choices && !choices.includes(value))
      return usage([`${name}: got "${value}", expected one of: ${choices.join(', ')}`]);
  }
  if (rest && !command.rest) return usage(['takes nothing after --']);
  if (command.rest?.required && !rest?.length) return usage([`expected ${command.rest.description} after --`]);

  const options: Record<string, string | string[] | boolean | undefined> = sub.opts();
  const configPath = typeof options['config'] === 'string' ? options['config'] : host.env['FISHERY_CONFIG'];
  let file: ConfigSection | undefined;
  if (configPath && fields.length > 0) {
    const read = readConfigSection(
      configPath,
      entry.name,
      entries.map(({ name }) => name),
    );
    if (!read.ok) return usage([read.problem]);
    file = read.value;
  }
  const flags: FlagValues = Object.fromEntries(
    fields.map((field) => [field.key, options[new Option(field.flag).attributeName()]]),
  );
  const settings = resolveSettings(command.settings, { flags, env: host.env, file });
  if (!settings.ok) return usage(settings.problems);
  const print = (line: string) => host.writeOut(`${line}\n`);
  return command.run(settings.value, { env: host.env, positionals, rest: rest ?? [], print, complain });
}
