import { z } from 'zod';
import type { SettingsSchema } from '../ops/settings.ts';
import type { Terminal } from './terminal.ts';

/**
 * What a shell learns from the exit code. `usage`: the call or the configuration is wrong, nothing was attempted or the
 * server would not read it. From `notFound` on: what came of a call to the server.
 */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** There is no such thing. */
  notFound: 3,
  /** The server understood and will not: its rules or the state of things forbid it. */
  refused: 4,
  /** The token is unknown, or its role may not do this. */
  unauthorised: 5,
  /** No server answered, or it cannot serve now; the same call may succeed later. */
  unreachable: 6,
  /** No answer in time, or the agent did not act in time. What was asked may still come to be. */
  timedOut: 7,
} as const;

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
  terminal: Terminal;
}>;

/**
 * One subcommand. `settings` alone decides its flags, environment variables, keys in the configuration file, defaults
 * and help text (see ops/settings.ts); `flags` are those that only the command line may say, because they are meant for
 * this one call. `run` gets both and returns the exit code; what it throws is reported as a bug, with its stack.
 */
export type Command<S extends SettingsSchema = SettingsSchema, F extends SettingsSchema = SettingsSchema> = Readonly<{
  settings: S;
  flags?: F;
  /** Whose section of the file has its settings, where it is not its own: the doctor reads the agent's. */
  section?: string;
  /** Its settings in the file are those of a profile, which many commands share, instead of a section of its own. */
  profiled?: boolean;
  /** The operations of the API that it carries out; a test holds them against all there are. */
  operations?: readonly string[];
  positionals?: readonly Positional[];
  /** Present when the command takes something after `--`, like `fishery hold … -- program args…`. */
  rest?: Readonly<{ name: string; description: string; required: boolean }>;
  /** A paragraph or an example, shown under the flags. */
  details?: string;
  // Written as a method: a command with any settings then still is a Command.
  run(settings: z.output<S> & z.output<F>, context: CommandContext): Promise<number>;
}>;

export const noFlags = z.strictObject({});

/** For commands that answer for programs too: what they would print as lines, they print as one document. */
export const jsonFlag = z.strictObject({
  json: z.boolean().default(false).meta({ description: 'Print the answer as one JSON document' }),
});

/** Writes a command down with `run` typed by its settings. */
export const defineCommand = <S extends SettingsSchema, F extends SettingsSchema = typeof noFlags>(
  command: Command<S, F>,
): Command<S, F> => command;

/**
 * A command's line in the list. The module is only loaded when it is called or its help is asked for, so that
 * `fishery --help` does not pay for a web server and a database.
 */
export type CommandEntry = Readonly<{
  name: string;
  summary: string;
  /** Below this major version of Node.js its libraries do not even load: the command is not loaded then, and says so. */
  nodeMajorMin?: number;
  /** For programs, not for people: left out of the help. */
  isHidden?: boolean;
  load: () => Promise<Command>;
}>;

/** Commands about one kind of thing: `fishery pools list`. */
export type GroupEntry = Readonly<{
  name: string;
  summary: string;
  isHidden?: boolean;
  verbs: () => Promise<readonly CommandEntry[]>;
}>;

export type Entry = CommandEntry | GroupEntry;
