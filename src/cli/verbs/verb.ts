import { z } from 'zod';
import {
  FisheryError,
  type ChangeOptions,
  type FisheryClient,
  type PageOptions,
  type WhoseOptions,
} from '../../sdk/index.ts';
import type { Page } from '../../wire/lists.ts';
import { AllocatorName, Name } from '../../wire/primitives.ts';
import type { noFlags } from '../command.ts';
import {
  exitCodes,
  jsonFlag as outputFlags,
  type Command,
  type CommandContext,
  type CommandEntry,
  type Positional,
} from '../command.ts';
import { clientOf, connectionSettings, exitCodeOf, linesOf } from '../connection.ts';
import { describe } from '../output/describe.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { selectorField } from './fields.ts';
import { argumentWords, filterWords, type ArgumentName } from './words.ts';

/** Of sessions and leases: whether it is one that a machine granted itself, and which machine. */
export const whoseFlags = {
  allocator: AllocatorName.optional().meta({
    description: 'machine: it is one that the broker of --machine granted, which is asked then',
  }),
  machine: Name.optional().meta({ description: 'The machine whose broker granted it' }),
};

export const whoseOf = ({
  allocator,
  machine,
}: Readonly<{ [K in keyof WhoseOptions]?: WhoseOptions[K] | undefined }>) => ({
  ...(allocator === undefined ? {} : { allocator }),
  ...(machine === undefined ? {} : { machine }),
});

type Arguments = readonly ArgumentName[];
type Values<A extends Arguments> = Readonly<Record<A[number], string>>;
type NoFlags = typeof noFlags;
type OutputFlags = z.output<typeof outputFlags>;

/** What a verb is called with. */
export type Call<A extends Arguments, F extends z.ZodObject> = Readonly<{
  client: FisheryClient;
  args: Values<A>;
  flags: z.output<F>;
  /** What the call of the client is to be told. */
  options: ChangeOptions;
  output: OutputFlags;
  context: CommandContext;
}>;

type Words<A extends Arguments, F extends z.ZodObject> = Readonly<{
  name: string;
  summary: string;
  operations: readonly string[];
  /** Arguments by position, all required. */
  args?: A;
  flags?: F;
  details?: string;
}>;

/** The frame of every verb: settings, a client, and the failures of calls as lines and exit codes. */
export function verb<const A extends Arguments = [], F extends z.ZodObject = NoFlags>(
  words: Words<A, F> & Readonly<{ run: (call: Call<A, F>) => Promise<number> }>,
): CommandEntry {
  const { name, summary, operations, args = [], details } = words;
  const flags = z.strictObject({ ...words.flags?.shape, ...outputFlags.shape });
  const command: Command<typeof connectionSettings, typeof flags> = {
    settings: connectionSettings,
    flags,
    profiled: true,
    operations,
    positionals: args.map((arg): Positional => ({ name: arg, description: argumentWords[arg], required: true })),
    ...(details === undefined ? {} : { details }),
    run: async (given, context) => {
      const client = clientOf(given, context.env);
      if (typeof client === 'string') {
        context.complain(client);
        return exitCodes.usage;
      }
      try {
        return await words.run({
          client,
          context,
          args: context.positionals,
          flags: pick(given, words.flags),
          options: {},
          output: given,
        });
      } catch (thrown) {
        if (!(thrown instanceof FisheryError)) throw thrown;
        for (const line of linesOf(thrown)) context.complain(line);
        return exitCodeOf(thrown);
      }
    },
  };
  return { name, summary, load: async () => command };
}

/** Of all that was given, what a schema of flags is about: bodies and queries are made of it, and have no room for more. */
const pick = <F extends z.ZodObject>(given: Readonly<Record<string, unknown>>, flags: F | undefined): z.output<F> =>
  Object.fromEntries(Object.keys(flags?.shape ?? {}).map((key) => [key, given[key]])) as z.output<F>;

/** Prints what an answer is: as JSON where that is asked for, else as a person reads it. */
export function show<T>({ output, context }: ForOutput, answer: T, inWords: (answer: T) => string = describe): number {
  // A deletion has no answer.
  if (answer === undefined) return exitCodes.ok;
  const text = output.json ? JSON.stringify(answer, null, 2) : inWords(answer);
  if (text !== '') context.print(text);
  return exitCodes.ok;
}
type ForOutput = Readonly<{ output: OutputFlags; context: CommandContext }>;

/** A verb that asks for one thing and shows it. */
export const readVerb = <const A extends Arguments = [], F extends z.ZodObject = NoFlags, T = unknown>(
  words: Words<A, F> &
    Readonly<{ read: (call: Call<A, F>) => Promise<T>; inWords?: (answer: T, call: Call<A, F>) => string }>,
): CommandEntry =>
  verb({
    ...words,
    run: async (call: Call<A, F>) => {
      const { inWords } = words;
      return show(call, await words.read(call), inWords && ((answer) => inWords(answer, call)));
    },
  });

const yes = z.boolean().default(false).meta({ description: 'Do it without asking' });
const dry_run = z.boolean().default(false).meta({ description: 'Show what would be, and change nothing' });
const ids = z.boolean().default(false).meta({ description: 'Print the identifiers of what came of it alone' });
const if_revision = z.int().min(0).optional().meta({
  description: 'Only if it is still as it was at this revision; default: as it is read just before',
});

/** A verb that changes something, and shows what came of it. */
export const changeVerb = <
  const A extends Arguments = [],
  F extends z.ZodObject = NoFlags,
  T = unknown,
  Subject extends Readonly<{ revision: number }> | undefined = undefined,
>(
  words: Words<A, F> &
    Readonly<{
      /**
       * What is there before, where that matters: the question is about it, and the change is of it and of nothing newer.
       */
      subject?: (call: Call<A, F>) => Promise<Subject>;
      /** For what cannot be undone: the question that somebody must say yes to before it is done. */
      question?: (call: Call<A, F>, subject: Subject) => string;
      change: (call: Call<A, F>, subject: Subject) => Promise<T>;
      inWords?: (answer: T, call: Call<A, F>) => string;
      /** The exit code, where it depends on the answer. */
      code?: (answer: T, call: Call<A, F>) => number;
    }>,
): CommandEntry => {
  const { subject: read, question, inWords } = words;
  const flags = z.strictObject({
    ...words.flags?.shape,
    dry_run,
    ids,
    ...(question ? { yes } : {}),
    ...(read ? { if_revision } : {}),
  });
  return verb({
    ...words,
    flags,
    run: async ({ flags: given, ...rest }) => {
      const call = { ...rest, flags: pick(given, words.flags) } as Call<A, F>;
      const found = await read?.(call);
      const revision = given['if_revision'] ?? found?.revision;
      const subject = (found && { ...found, revision }) as Subject;
      const isDry = given['dry_run'];
      if (question && !isDry && given['yes'] !== true) {
        const refusal = await refusalOf(call.context, question(call, subject));
        if (refusal !== undefined) return refusal;
      }
      const answer = await words.change(isDry ? { ...call, options: { dryRun: true } } : call, subject);
      if (isDry) call.context.complain('this is what would be: nothing was changed');
      if (given['ids']) for (const id of idsIn(answer)) call.context.print(id);
      else show(call, answer, inWords && ((changed) => inWords(changed, call)));
      return words.code?.(answer, call) ?? exitCodes.ok;
    },
  });
};

/** An answer is one thing, or carries some in a list, or one beside what is only shown once. */
function idsIn(answer: unknown): readonly string[] {
  if (typeof answer !== 'object' || answer === null) return [];
  if ('id' in answer || 'name' in answer) return [idOf(answer)];
  return Object.values(answer).flatMap((member: unknown) =>
    Array.isArray(member) ? member.flatMap(idsIn) : idsIn(member),
  );
}

/** The exit code when nobody said yes. */
async function refusalOf({ terminal, complain }: CommandContext, question: string): Promise<number | undefined> {
  if (!terminal.isInteractive) {
    complain(`${question} Nobody is there to answer, and nothing was done: pass --yes`);
    return exitCodes.usage;
  }
  if (/^y(?:es)?$/i.test((await terminal.ask(`${question} [y/N] `)).trim())) return undefined;
  complain('nothing was done');
  return exitCodes.failure;
}

/** What one table holds at most, and so what is in memory at once. */
const rows_per_table = 1_000;

const listFlags = z.strictObject({
  limit: z.int().min(1).default(rows_per_table).meta({ description: 'Most items to print' }),
  all: z.boolean().default(false).meta({ description: 'Print every item, however many there are' }),
  jsonl: z.boolean().default(false).meta({ description: 'Print each item as a line of JSON, as it comes' }),
  ids: z.boolean().default(false).meta({ description: 'Print identifiers alone, one a line' }),
});

const selectorFilter = selectorField.optional();
type Filters<Shape> = {
  [Key in Exclude<keyof Shape, 'limit' | 'cursor'>]: Key extends `select${string}` ? typeof selectorFilter : Shape[Key];
};

/**
 * The filters of a list's query: what is left of it when the pages are the program's business. Selectors stay text, which
 * the server reads.
 */
export function filtersOf<Q extends z.ZodObject>(query: Q): z.ZodObject<Filters<Q['shape']>> {
  const filters = Object.entries(query.shape as Readonly<Record<string, z.ZodType>>).flatMap(([key, schema]) => {
    if (key === 'limit' || key === 'cursor') return [];
    const filter = key.startsWith('select') ? selectorFilter : schema;
    const description = filterWords[key] ?? schema.description;
    return [[key, description === undefined ? filter : filter.meta({ description })]];
  });
  return z.strictObject(Object.fromEntries(filters) as Filters<Q['shape']>);
}

/** A verb that reads a paged list, and prints it as a table, as identifiers, as one JSON array or as lines of JSON. */
export const listVerb = <const A extends Arguments = [], F extends z.ZodObject = NoFlags, T extends object = object>(
  words: Words<A, F> &
    Readonly<{
      page: (call: Call<A, F>, page: PageOptions) => Promise<Page<T>>;
      columns: Columns<T>;
      /** What names an item to other verbs; default its `id` or `name`. */
      id?: (item: T) => string;
    }>,
): CommandEntry =>
  verb({
    ...words,
    flags: z.strictObject({ ...words.flags?.shape, ...listFlags.shape }),
    run: async ({ flags: given, ...rest }) => {
      const { limit, all, jsonl, ids } = given;
      const call = { ...rest, flags: pick(given, words.flags) } as Call<A, F>;
      const printer = printerOf({ json: call.output.json, jsonl, ids }, words, call.context);
      if (typeof printer === 'string') {
        call.context.complain(printer);
        return exitCodes.usage;
      }
      let left = all ? Infinity : limit;
      let cursor: string | undefined;
      do {
        const page = await words.page(call, {
          limit: Math.min(left, rows_per_table),
          ...(cursor === undefined ? {} : { cursor }),
        });
        printer.items(page.items);
        left -= page.items.length;
        cursor = page.next ?? undefined;
      } while (cursor !== undefined && left > 0);
      printer.end();
      if (cursor !== undefined) call.context.complain(`there are more than ${limit}: --limit or --all shows them`);
      return exitCodes.ok;
    },
  });

type Printer<T> = Readonly<{ items: (items: readonly T[]) => void; end: () => void }>;
type How = Readonly<{ json: boolean; jsonl: boolean; ids: boolean }>;

function printerOf<T extends object>(
  how: How,
  { columns, id = idOf }: Readonly<{ columns: Columns<T>; id?: (item: T) => string }>,
  { print, complain, terminal }: CommandContext,
): Printer<T> | string {
  const [chosen, ...others] = (['json', 'jsonl', 'ids'] as const).filter((name) => how[name]);
  if (others.length > 0) return `--${chosen} and --${others.join(' and --')} exclude each other`;
  let count = 0;
  switch (chosen) {
    case 'ids':
      return { items: (items) => items.forEach((item) => print(id(item))), end: () => {} };
    case 'jsonl':
      return { items: (items) => items.forEach((item) => print(JSON.stringify(item))), end: () => {} };
    case 'json':
      return {
        items: (items) => items.forEach((item) => print(`${count++ === 0 ? '[' : ','}${JSON.stringify(item)}`)),
        end: () => print(count === 0 ? '[]' : ']'),
      };
    default:
      return {
        items: (items) => {
          if (items.length > 0) print(tableOf(columns, items, count === 0));
          count += items.length;
        },
        end: () => {
          if (count === 0 && terminal.isScreen) complain('nothing found');
        },
      };
  }
}

function idOf(item: object): string {
  const id = 'id' in item ? item.id : 'name' in item ? item.name : undefined;
  if (typeof id !== 'string') throw new TypeError('an item of this list has neither id nor name');
  return id;
}
