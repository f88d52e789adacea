import { expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { settingFields } from '../../src/ops/setting-fields.ts';

it('every command has a name and a summary of its own', () => {
  expect(new Set(commands.map(({ name }) => name)).size).toBe(commands.length);
  expect(commands.filter(({ name, summary }) => !/^[a-z]+$/.test(name) || !/^[A-Z].*[^.]$/.test(summary))).toEqual([]);
});

it.each(commands)('$name: loads, and describes every setting', async ({ load }) => {
  const { settings, positionals = [] } = await load();
  const undescribed = settingFields(settings).filter(({ description }) => description === '');
  expect(undescribed.map(({ key }) => key)).toEqual([]);
  const optionalFirst = positionals.findIndex(({ required }) => !required);
  expect(positionals.filter(({ required }, index) => required && optionalFirst >= 0 && index > optionalFirst)).toEqual(
    [],
  );
});
