import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readConfigSection } from '../../src/ops/config-file.ts';
import { settingFields } from '../../src/ops/setting-fields.ts';
import { readSecretFile, resolveSettings, type SettingsSources } from '../../src/ops/settings.ts';

const schema = z.strictObject({
  listen_port: z.int().min(1).max(65_535).default(8080).meta({ description: 'Port to listen on' }),
  host: z.string().default('127.0.0.1'),
  docs: z.boolean().default(true),
  log_level: z.enum(['info', 'warn']).default('info'),
  uplinks: z.array(z.string()).max(3).default([]),
  ports: z.array(z.int()).default([]),
  rest_s: z.union([z.int().min(0), z.literal('never')]).default(120),
  token: z.string().min(8).optional(),
  site: z
    .string()
    .transform((text, context) => {
      if (text === 'fra1') return { name: text };
      context.addIssue({ code: 'custom', message: `there is no site "${text}"` });
      return z.NEVER;
    })
    .optional(),
  routers: z.array(z.strictObject({ name: z.string(), weight: z.int().max(10).default(1) })).default([]),
});

const fileOf = (values: Record<string, unknown>) => ({ file: 'fishery.yaml', section: 'server', values });
const resolved = (sources: SettingsSources) => {
  const read = resolveSettings(schema, sources);
  if (!read.ok) throw new Error(read.problems.join('\n'));
  return read.value;
};
const problems = (sources: SettingsSources) => {
  const read = resolveSettings(schema, sources);
  return read.ok ? [] : read.problems;
};

describe('precedence', () => {
  const flags = { listen_port: '1' };
  const env = { FISHERY_LISTEN_PORT: '2' };
  const file = fileOf({ listen_port: 3 });

  it.each([
    ['flag over all', { flags, env, file }, 1],
    ['environment over file', { env, file }, 2],
    ['file over default', { file }, 3],
    ['default', {}, 8080],
    ['an empty variable is absent', { env: { FISHERY_LISTEN_PORT: '' } }, 8080],
  ])('%s', (_name, sources, expected) => {
    expect(resolved(sources).listen_port).toBe(expected);
  });

  it('does not look at a weaker source whose value is wrong', () => {
    expect(resolved({ flags, env: { FISHERY_LISTEN_PORT: 'x' }, file: fileOf({ listen_port: 'y' }) }).listen_port).toBe(
      1,
    );
  });
});

describe('spelling', () => {
  it.each([
    ['true', true],
    ['1', true],
    ['Yes', true],
    ['on', true],
    ['false', false],
    ['0', false],
    ['no', false],
    ['off', false],
  ])('reads the variable %s as %s', (text, expected) => {
    expect(resolved({ env: { FISHERY_DOCS: text } }).docs).toBe(expected);
  });

  it('takes lists from repeated flags, from commas in a variable, and from the file', () => {
    expect(resolved({ flags: { uplinks: ['a', 'b,c'] } }).uplinks).toEqual(['a', 'b,c']);
    expect(resolved({ env: { FISHERY_UPLINKS: 'a, b,,' } }).uplinks).toEqual(['a', 'b']);
    expect(resolved({ env: { FISHERY_PORTS: '1,2' } }).ports).toEqual([1, 2]);
    expect(resolved({ file: fileOf({ uplinks: ['x'] }) }).uplinks).toEqual(['x']);
  });

  it('takes what has parts of its own from the file alone, with the defaults inside', () => {
    const file = fileOf({ routers: [{ name: 'r1' }] });
    expect(resolved({ env: { FISHERY_ROUTERS: 'r9' }, file }).routers).toEqual([{ name: 'r1', weight: 1 }]);
  });

  it('tells numbers from words where both are allowed', () => {
    expect(resolved({ flags: { rest_s: '30' } }).rest_s).toBe(30);
    expect(resolved({ flags: { rest_s: 'never' } }).rest_s).toBe('never');
  });

  it('keeps text that looks like a number as text', () => {
    expect(resolved({ flags: { host: '10' } }).host).toBe('10');
  });

  it('applies the transforms of the schema', () => {
    expect(resolved({ flags: { site: 'fra1' } }).site).toEqual({ name: 'fra1' });
  });
});

describe('problems name the source, what was given and what is expected', () => {
  it.each<[SettingsSources, string]>([
    [{ flags: { listen_port: '70000' } }, '--listen-port: got 70000, expected a number of at most 65535'],
    [{ env: { FISHERY_LISTEN_PORT: 'http' } }, 'FISHERY_LISTEN_PORT: got "http", expected a number'],
    [{ env: { FISHERY_LISTEN_PORT: '80.5' } }, 'FISHERY_LISTEN_PORT: got 80.5, expected a whole number'],
    [{ env: { FISHERY_LISTEN_PORT: '0x50' } }, 'FISHERY_LISTEN_PORT: got "0x50", expected a number'],
    [{ env: { FISHERY_DOCS: 'maybe' } }, 'FISHERY_DOCS: got "maybe", expected true or false'],
    [{ flags: { log_level: 'loud' } }, '--log-level: got "loud", expected one of: info, warn'],
    [{ flags: { rest_s: 'x' } }, '--rest-s: got "x", expected a number, or never'],
    [{ flags: { site: 'moon' } }, '--site: got "moon": there is no site "moon"'],
    [{ flags: { uplinks: ['a', 'b', 'c', 'd'] } }, '--uplinks: got ["a","b","c","d"], expected at most 3 items'],
    [{ flags: { token: 'hunter2' } }, '--token: got a value that is not shown, expected at least 8 characters'],
    [{ file: fileOf({ host: 5 }) }, 'server.host in fishery.yaml: got 5, expected text'],
    [{ file: fileOf({ docs: null }) }, 'server.docs in fishery.yaml: got null, expected true or false'],
    [
      { file: fileOf({ routers: [{ name: 'r', weight: 11 }] }) },
      'server.routers in fishery.yaml (at routers[0].weight): got 11, expected a number of at most 10',
    ],
    [
      { file: fileOf({ 'listen-port': 5 }) },
      'server.listen-port in fishery.yaml: is not a setting, did you mean listen_port?',
    ],
  ])('%j', (sources, expected) => {
    expect(problems(sources)).toEqual([expected]);
  });

  it('lists what there is when a key is unknown, even if all else is well', () => {
    expect(problems({ file: fileOf({ colour: 'red' }) })).toEqual([
      expect.stringMatching(/^server\.colour in fishery\.yaml: is not a setting, expected one of: listen_port, host, /),
    ]);
  });

  it('reports all problems at once', () => {
    expect(problems({ flags: { listen_port: 'x', log_level: 'y' }, file: fileOf({ z: 1 }) })).toHaveLength(3);
  });

  it('says where a required setting can be given', () => {
    const needs = z.strictObject({ machine: z.string(), routes: z.array(z.strictObject({ to: z.string() })) });
    expect(resolveSettings(needs, { file: { file: 'f.yaml', section: 'agent', values: {} } })).toEqual({
      ok: false,
      problems: [
        'machine is required: set --machine, FISHERY_MACHINE or agent.machine in f.yaml',
        'routes is required: set agent.routes in f.yaml',
      ],
    });
  });

  it('reports a rule about several settings in its own words', () => {
    const pair = z
      .strictObject({ first: z.int().default(9), last: z.int().default(1) })
      .refine((range) => range.first <= range.last, 'first must not be above last');
    expect(resolveSettings(pair, {})).toEqual({ ok: false, problems: ['first must not be above last'] });
  });
});

describe('fields', () => {
  const fields = Object.fromEntries(settingFields(schema).map((field) => [field.key, field]));

  it('derive flag, variable, kind, default and description from the schema', () => {
    expect(fields['listen_port']).toEqual({
      key: 'listen_port',
      flag: '--listen-port',
      env: 'FISHERY_LISTEN_PORT',
      kind: 'number',
      itemKind: 'text',
      choices: [],
      description: 'Port to listen on',
      defaultText: '8080',
      required: false,
    });
    expect(Object.values(fields).map(({ key, kind }) => [key, kind])).toEqual([
      ['listen_port', 'number'],
      ['host', 'text'],
      ['docs', 'boolean'],
      ['log_level', 'text'],
      ['uplinks', 'list'],
      ['ports', 'list'],
      ['rest_s', 'text-or-number'],
      ['token', 'text'],
      ['site', 'text'],
      ['routers', 'file-only'],
    ]);
    expect(fields['log_level']?.choices).toEqual(['info', 'warn']);
  });

  it('see through schemas that are shared by name', () => {
    const Shared = z.array(z.int()).meta({ id: 'SharedInSettingsTest', description: 'Shared' });
    const [field] = settingFields(z.strictObject({ shared: Shared }));
    expect(field).toMatchObject({ kind: 'list', itemKind: 'number', description: 'Shared', required: true });
  });

  it.each(['listenPort', 'no_docs', 'config', 'Port', 'a__b'])('refuse the key %s', (key) => {
    expect(() => settingFields(z.strictObject({ [key]: z.string() }))).toThrow(key);
  });
});

describe('files', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fishery-settings-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const write = (text: string) => {
    const file = join(folder, 'fishery.yaml');
    writeFileSync(file, text);
    return file;
  };
  const read = (text: string) => readConfigSection(write(text), 'server', ['server', 'agent']);

  it.each([
    ['YAML', 'server:\n  listen_port: 1 # a remark\nagent:\n  machine: m1\n'],
    ['JSON', '{"server": {"listen_port": 1}}'],
  ])('%s: gives the section of the command', (_form, text) => {
    expect(read(text)).toMatchObject({ ok: true, value: { section: 'server', values: { listen_port: 1 } } });
  });

  it.each([
    ['an empty file', ''],
    ['no section', 'agent: {}'],
    ['an empty section', 'server:\n'],
  ])('%s holds no settings', (_name, text) => {
    expect(read(text)).toMatchObject({ ok: true, value: { values: {} } });
  });

  it.each([
    ['a section nobody has', 'sever: {}', /has no use for "sever", expected one of: server, agent, profile, profiles$/],
    ['a list', '- a', /expected a mapping with sections/],
    ['a section that is text', 'server: yes please', /expected "server" to be a mapping/],
    ['broken YAML', 'server: {', /is not valid YAML or JSON: .* at line 1/],
    ['a key twice', 'server:\n  host: a\n  host: b\n', /is not valid YAML or JSON: Map keys must be unique/],
    ['an avalanche of aliases', aliasAvalanche(), /is not valid YAML or JSON: Excessive alias count/],
    ['a huge file', ' '.repeat(1_048_577), /is 1048577 bytes, expected at most 1048576$/],
  ])('%s is a problem of one line', (_name, text, expected) => {
    const result = read(text);
    const problem = result.ok ? 'no problem' : result.problem;
    expect(problem).toMatch(expected);
    expect(problem).toMatch(/^config file .*fishery\.yaml: [^\n]+$/);
  });

  it.each([
    ['absent.yaml', 'no such file'],
    ['.', 'it is a directory'],
  ])('%s cannot be read: %s', (name, reason) => {
    const file = join(folder, name);
    expect(readConfigSection(file, 'server', ['server'])).toEqual({
      ok: false,
      problem: `config file ${file}: cannot be read (${reason})`,
    });
  });

  it('reads a secret without the newline at its end', () => {
    expect(readSecretFile(write('s3cret\n'))).toEqual({ ok: true, value: 's3cret' });
  });

  it.each([
    ['\n', 'is empty'],
    ['x'.repeat(65_537), 'too large for a secret'],
  ])('refuses a file that holds no secret', (text, expected) => {
    const result = readSecretFile(write(text));
    expect(result.ok ? '' : result.problem).toContain(expected);
    expect(JSON.stringify(result)).not.toContain('xxx');
  });

  it('says why a secret cannot be read', () => {
    expect(readSecretFile(join(folder, 'none'))).toEqual({
      ok: false,
      problem: `${join(folder, 'none')}: cannot be read (no such file)`,
    });
  });
});

/** Each level names the one below ten times: a few hundred bytes that would unfold to gigabytes. */
function aliasAvalanche(): string {
  const levels = Array.from({ length: 9 }, (_, level) => {
    const below = level === 0 ? '"x"' : `*a${level - 1}`;
    return `  k${level}: &a${level} [${Array.from({ length: 10 }, () => below).join(', ')}]`;
  });
  return `server:\n${levels.join('\n')}\n`;
}
