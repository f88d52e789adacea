import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { runProgram } from '../../src/cli/program.ts';
import { fakeTerminal } from '../support/fake-terminal.ts';
import { openSqliteStore } from '../../src/db/sqlite/open.ts';
import { fillTable } from '../support/full-table.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-database-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string) => join(folder, name);

/** `fishery` with these arguments: its exit code and what it wrote. */
async function fishery(...args: readonly string[]): Promise<Readonly<{ code: number; out: string; err: string }>> {
  let [out, err] = ['', ''];
  const code = await runProgram(commands, '0.0.0', args, {
    env: {},
    nodeVersion: process.versions.node,
    terminal: fakeTerminal(),
    writeOut: (text) => (out += text),
    writeErr: (text) => (err += text),
  });
  return { code, out, err };
}

async function filled(name: string): Promise<void> {
  const store = await openSqliteStore({ directory: at(name), newEpoch: () => 'epoch-1', nowUs: () => 0 });
  await fillTable(store);
  await store.close();
}

describe('fishery migrate', () => {
  it('says what is missing, applies it, and has nothing to do the second time', async () => {
    const data = ['--data-dir', at('data')];
    expect(await fishery('migrate', '--check', ...data)).toEqual({
      code: 1,
      out: 'missing   0000_pools_slices_leases\nmissing   0001_guards\n',
      err: '',
    });
    expect(existsSync(at('data'))).toBe(false);
    expect(await fishery('migrate', ...data)).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^applied {3}0000_/) as string,
    });
    expect(await fishery('migrate', '--check', ...data)).toEqual({
      code: 0,
      out: 'up to date (0001_guards)\n',
      err: '',
    });
    expect(await fishery('migrate', ...data)).toMatchObject({ code: 0, out: 'up to date (0001_guards)\n' });
  });
});

describe('fishery check', () => {
  it('tells what it looked at, and that it found nothing', async () => {
    await filled('data');
    const { code, out, err } = await fishery('check', '--data-dir', at('data'));
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(
      /^checked {5}\d+ slices, \d+ leases, \d+ sessions, \d+ entries of the log\nrevision {4}\d+\nflaws {7}0\n$/,
    );
  });

  it('says in one line that there is nothing to look at', async () => {
    expect(await fishery('check', '--data-dir', at('nowhere'))).toEqual({
      code: 1,
      out: '',
      err: `fishery check: there is no database in ${at('nowhere')}: look at data_dir\n`,
    });
  });
});

describe('fishery dump and restore', () => {
  it('carry a database over by way of a file, for its owner only', async () => {
    await filled('data');
    const file = at('dump.ndjson');
    expect(await fishery('dump', '--data-dir', at('data'), '--file', file)).toEqual({ code: 0, out: '', err: '' });
    expect((statSync(file).mode & 0o777).toString(8)).toBe('600');
    const lines = readFileSync(file, 'utf8').split('\n');
    expect(lines.pop()).toBe('');
    expect((await fishery('dump', '--data-dir', at('data'))).out).toBe(readFileSync(file, 'utf8'));

    const restored = await fishery('restore', '--data-dir', at('new'), '--file', file);
    expect(restored).toMatchObject({
      code: 0,
      err: '',
      out: expect.stringContaining(`restored    ${lines.length - 2} rows\n`) as string,
    });
    expect((await fishery('check', '--data-dir', at('new'))).code).toBe(0);
  });

  it('say in one line what they cannot do, and change nothing', async () => {
    await filled('data');
    const file = at('dump.ndjson');
    writeFileSync(file, 'precious');
    expect((await fishery('dump', '--data-dir', at('data'), '--file', file)).err).toMatch(
      /^fishery dump: .* cannot be made \(EEXIST.*\n$/,
    );
    expect(readFileSync(file, 'utf8')).toBe('precious');
    expect(await fishery('restore', '--data-dir', at('new'), '--file', file)).toMatchObject({
      code: 1,
      err: 'fishery restore: line 1 of the dump: it is not an object in JSON\n',
    });
    expect(existsSync(join(at('new'), 'fishery.db'))).toBe(false);
    expect((await fishery('restore', '--data-dir', at('new'), '--file', at('no'))).err).toMatch(
      /cannot be read \(ENOENT/,
    );
    rmSync(file);
    await fishery('dump', '--data-dir', at('data'), '--file', file);
    expect((await fishery('restore', '--data-dir', at('data'), '--file', file)).err).toMatch(
      /is not empty: restore into a new directory\n$/,
    );
  });

  it("leave no empty database behind when a dump was cut off, and none of another's away", async () => {
    await filled('data');
    const file = at('dump.ndjson');
    await fishery('dump', '--data-dir', at('data'), '--file', file);
    const whole = readFileSync(file, 'utf8');
    writeFileSync(file, whole.split('\n').slice(0, 5).join('\n'));
    const failed = await fishery('restore', '--data-dir', at('new'), '--file', file);
    expect(failed).toMatchObject({ code: 1, err: expect.stringContaining('cut off') as string });
    expect(readdirSync(at('new')).filter((name) => name.startsWith('fishery.db'))).toEqual([]);
    await fishery('migrate', '--data-dir', at('made'));
    expect((await fishery('restore', '--data-dir', at('made'), '--file', file)).code).toBe(1);
    expect(existsSync(join(at('made'), 'fishery.db'))).toBe(true);
    writeFileSync(file, whole);
    expect((await fishery('restore', '--data-dir', at('new'), '--file', file)).code).toBe(0);
  });
});

describe('with --json', () => {
  const document = async (...args: readonly string[]) => {
    const { code, out, err } = await fishery(...args, '--json');
    return { code, err, said: JSON.parse(out) as unknown };
  };

  it('the commands of the database say what came of it in one document, with the same exit codes', async () => {
    const steps = ['0000_pools_slices_leases', '0001_guards'];
    const none = ['--data-dir', at('none')];
    const missing = { missing: steps, applied: [], schema: '0001_guards' };
    expect(await document('migrate', '--check', ...none)).toEqual({ code: 1, err: '', said: missing });
    expect((await document('migrate', ...none)).said).toEqual({ missing: [], applied: steps, schema: '0001_guards' });
    expect((await document('migrate', '--check', ...none)).code).toBe(0);

    await filled('data');
    const file = at('dump.ndjson');
    const checked = await document('check', '--data-dir', at('data'));
    expect(checked).toMatchObject({ code: 0, err: '', said: { flaw_count: 0, flaws: [] } });
    const { revision } = checked.said as { revision: number };
    const rows = expect.any(Number) as number;
    const dumped = await document('dump', '--data-dir', at('data'), '--file', file);
    expect(dumped.said).toEqual({ file, rows, revision });
    const restored = await document('restore', '--data-dir', at('new'), '--file', file);
    expect(restored.said).toEqual({ rows: (dumped.said as { rows: number }).rows, revision });
    expect(await fishery('dump', '--data-dir', at('data'), '--json')).toMatchObject({ code: 2, out: '' });
  });
});
