import type { z } from 'zod';
import type { SettingsSchema } from '../ops/settings.ts';

/** What a shell learns from the exit code. `usage`: nothing was attempted, the call or the configuration is wrong. */
export const exitCodes = { ok: 0, failure: 1, usage: 2 } as const;

/** An argument by position, before any `--`. Required ones come first. */
export type Positional = Readonly<{
  name: string;
  description: string;
  choices?: readonly string[];
  required: boolean;
}>;

/** What a command gets besides its settings. */
export type CommandContext = Readonly<{
  env: Readonly<Record<string, string | undefined>>;
  /** The positionals that were given, by name. */
  positionals: Readonly<Record<string, string>>;
  /** Everything after `--`, untouched. */
  rest: readonly string[];
  /** A line on standard output: what the command was asked for. */
  print(line: string): void;
  /** A line on standard error, with the command's name in front: what the caller should know or mend. */
  complain(line: string): void;
}>;

/**
 * One subcommand. `settings` alone decides its flags, environment variables, keys in the configuration file, defaults
 * and help text (see ops/settings.ts). `run` returns the exit code; what it throws is reported as a bug, with its stack.
 */
export type Command<S extends SettingsSchema = SettingsSchema> = Readonly<{
  settings: S;
  positionals?: readonly Positional[];
  /** Present when the command takes something after `--`, like `fishery hold … -- program args…`. */
  rest?: Readonly<{ name: string; description: string; required: boolean }>;
  /** A paragraph or an example, shown under the flags. */
  details?: string;
  // Written as a method: a command with any settings then still is a Command.
  run(settings: z.output<S>, context: CommandContext): Promise<number>;
}>;

/** Writes a command down with `run` typed by its settings. */
export const defineCommand = <S extends SettingsSchema>(command: Command<S>): Command<S> => command;

/**
 * A command's line in the list. The module is only loaded when it is called or its help is asked for, so that
 * `fishery --help` does not pay for a web server and a database.
 */
export type CommandEntry = Readonly<{
  name: string;
  summary: string;
  /** Below this major version of Node.js its libraries do not even load: the command is not loaded then, and says so. */
  nodeMajorMin?: number;
  load: () => Promise<Command>;
}>;
