import { Option, type Command as Program } from 'commander';
import { settingFields, type SettingField } from '../ops/setting-fields.ts';
import type { Command } from './command.ts';

/** A flag of a command: whether its value may also come from the environment and from a file, or from itself alone. */
export type Flag = Readonly<{ field: SettingField; isSetting: boolean }>;

export const flagsOf = (command: Command): readonly Flag[] => [
  ...(command.flags ? settingFields(command.flags) : []).map((field) => ({ field, isSetting: false })),
  ...settingFields(command.settings).map((field) => ({ field, isSetting: true })),
];

const codes = `Exit codes: 0 success, 1 failure, 2 wrong usage or configuration`;
export const footer = `
Settings come from flags, else the environment, else the file named by --config, else their defaults.
${codes}.`;
const profiledFooter = `
Settings come from flags, else the environment, else the profile named by --profile in the configuration file, else their
defaults. The token may also be in FISHERY_TOKEN.
${codes}, 3 not found, 4 refused, 5 unauthorised,
6 server unreachable or busy, 7 timed out.`;

/** Gives the command line its positionals, flags and help. */
export function describeCommand(sub: Program, command: Command, flags: readonly Flag[]): void {
  for (const positional of command.positionals ?? []) {
    const choices = positional.choices ? ` (one of: ${positional.choices.join(', ')})` : '';
    sub.argument(
      positional.required ? `<${positional.name}>` : `[${positional.name}]`,
      positional.description + choices,
    );
  }
  sub.allowExcessArguments(false);
  for (const flag of flags) for (const option of optionsOf(flag)) sub.addOption(option);
  if (flags.some(({ isSetting }) => isSetting)) {
    if (command.profiled) {
      sub.addOption(new Option('--profile <name>', 'Which of the profiles in the file to use [FISHERY_PROFILE]'));
      sub.addOption(
        new Option(
          '--config <file>',
          'YAML or JSON file with profiles [FISHERY_CONFIG, default ~/.config/fishery/config.yaml]',
        ),
      );
    } else
      sub.addOption(new Option('--config <file>', 'YAML or JSON file with a section per command [FISHERY_CONFIG]'));
  }
  const positionals = (command.positionals ?? []).map(({ name, required }) => (required ? ` <${name}>` : ` [${name}]`));
  sub.usage('[flags]' + positionals.join('') + (command.rest ? ` -- <${command.rest.name}...>` : ''));
  sub.addHelpText('after', () => afterHelp(command, flags));
}

const offFlag = (field: SettingField) => field.flag.replace('--', '--no-');

function optionsOf({ field, isSetting }: Flag): readonly Option[] {
  if (field.kind === 'file-only') return [];
  const canBeOff = field.kind === 'boolean' && (isSetting || field.defaultText === 'true');
  const facts = [
    ...(isSetting ? [field.env] : []),
    ...(field.kind === 'list' ? ['may be repeated'] : []),
    ...(canBeOff ? [`off: ${offFlag(field)}`] : []),
    ...(field.required ? ['required'] : []),
    ...(field.defaultText === undefined || (field.kind === 'boolean' && !canBeOff)
      ? []
      : [`default ${field.defaultText}`]),
  ];
  const text = `${field.description}${facts.length > 0 ? ` [${facts.join(', ')}]` : ''}`.trimStart();
  if (field.kind === 'boolean')
    return [new Option(field.flag, text), ...(canBeOff ? [new Option(offFlag(field)).hideHelp()] : [])];
  const placeholder =
    field.choices.length > 0 ? field.choices.join('|') : field.kind === 'list' ? field.itemKind : field.kind;
  const option = new Option(`${field.flag} <${placeholder.replaceAll('-or-', '|')}>`, text);
  return [field.kind === 'list' ? option.argParser((value, sofar?: string[]) => [...(sofar ?? []), value]) : option];
}

function afterHelp(command: Command, flags: readonly Flag[]): string {
  const onlyInFile = flags.map(({ field }) => field).filter(({ kind }) => kind === 'file-only');
  const parts = [
    ...(command.rest ? [`After --: ${command.rest.description}`] : []),
    ...(onlyInFile.length > 0
      ? ['Only in the file:\n' + onlyInFile.map((field) => `  ${field.key}  ${field.description}`).join('\n')]
      : []),
    ...(command.details === undefined ? [] : [command.details]),
    (command.profiled ? profiledFooter : footer).trim(),
  ];
  return '\n' + parts.join('\n\n');
}
