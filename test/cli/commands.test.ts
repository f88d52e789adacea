import { describe, expect, it } from 'vitest';
import type { CommandEntry } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/commands.ts';
import { flagsOf } from '../../src/cli/help.ts';

/** Every command with the words that call it, and the groups with theirs. */
const groups = await Promise.all(
  commands.map(async (entry) => ({ entry, verbs: 'verbs' in entry ? await entry.verbs() : [] })),
);
const callable = groups.flatMap(({ entry, verbs }): readonly Readonly<{ path: string; entry: CommandEntry }>[] => [
  ...('load' in entry ? [{ path: entry.name, entry }] : []),
  ...verbs.map((verb) => ({ path: `${entry.name} ${verb.name}`, entry: verb })),
]);

describe.each(groups.filter(({ verbs }) => verbs.length > 0).map(({ entry, verbs }) => [entry.name, verbs] as const))(
  'fishery %s',
  (_name, verbs) => {
    it('has verbs with a name and a summary of their own', () => expectToBeNamed(verbs));
  },
);

it('every command has a name and a summary of its own', () => expectToBeNamed(commands));

function expectToBeNamed(entries: readonly Readonly<{ name: string; summary: string }>[]): void {
  expect(new Set(entries.map(({ name }) => name)).size).toBe(entries.length);
  expect(new Set(entries.map(({ summary }) => summary)).size).toBe(entries.length);
  expect(
    entries.filter(({ name, summary }) => !/^[a-z]+(?:-[a-z]+)*$/.test(name) || !/^[A-Z].*[^.]$/.test(summary)),
  ).toEqual([]);
}

it.each(callable)('$path: loads, and describes every flag once', async ({ entry }) => {
  const command = await entry.load();
  const fields = flagsOf(command).map(({ field }) => field);
  expect(fields.filter(({ description }) => description === '').map(({ key }) => key)).toEqual([]);
  expect(new Set(fields.map(({ key }) => key)).size).toBe(fields.length);
  const { positionals = [] } = command;
  const optionalFirst = positionals.findIndex(({ required }) => !required);
  expect(positionals.filter(({ required }, index) => required && optionalFirst >= 0 && index > optionalFirst)).toEqual(
    [],
  );
});
