import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineCommand, exitCodes, type CommandContext, type CommandEntry } from '../../src/cli/command.ts';
import { runProgram } from '../../src/cli/program.ts';
import { fakeTerminal } from '../support/fake-terminal.ts';

type Ran = Readonly<{ code: number; out: string; err: string }>;

const settings = z.strictObject({
  ports: z.int().min(1).default(100).meta({ description: 'How many ports' }),
  uplinks: z.array(z.string()).default([]).meta({ description: 'Interfaces' }),
  docs: z.boolean().default(true).meta({ description: 'Serve the docs' }),
  mode: z.enum(['late', 'explicit']).default('late').meta({ description: 'How ports are bound' }),
  routes: z
    .array(z.strictObject({ to: z.string() }))
    .default([])
    .meta({ description: 'Extra routes' }),
});

/** A program with two commands that report what they were called with. */
function makeProgram() {
  const calls: { settings: z.output<typeof settings>; context: CommandContext }[] = [];
  const loaded: string[] = [];
  const hold = defineCommand({
    settings,
    rest: { name: 'program', description: 'the program to run', required: true },
    details: 'Example: fishery hold --ports 10 -- haproxy -f haproxy.cfg',
    run: async (values, context) => {
      calls.push({ settings: values, context });
      context.print('held');
      context.complain('one remark');
      return 7;
    },
  });
  const agent = defineCommand({
    settings: z.strictObject({ machine: z.string().meta({ description: 'Its name' }) }),
    positionals: [{ name: 'action', description: 'What to do', choices: ['up', 'down'], required: false }],
    run: async ({ machine }, { positionals }) => {
      if (machine === 'broken') throw new TypeError('a bug');
      return positionals['action'] === 'down' ? exitCodes.ok : exitCodes.failure;
    },
  });
  const entries: CommandEntry[] = [
    { name: 'hold', summary: 'Hold ports', load: async () => (loaded.push('hold'), hold) },
    { name: 'agent', summary: 'Run the agent', load: async () => (loaded.push('agent'), agent) },
  ];
  const call = async (line: string, env: Record<string, string> = {}): Promise<Ran> => {
    let out = '';
    let err = '';
    const code = await runProgram(entries, '1.2.3', line.split(' ').filter(Boolean), {
      env,
      nodeVersion: process.versions.node,
      terminal: fakeTerminal(),
      writeOut: (text) => void (out += text),
      writeErr: (text) => void (err += text),
    });
    return { code, out, err };
  };
  return { call, calls, loaded };
}

describe('calling a command', () => {
  it('hands over settings, what follows --, and a way to speak', async () => {
    const { call, calls } = makeProgram();
    const ran = await call('hold --ports 10 --uplinks a --uplinks b --no-docs -- haproxy -f x --ports 5');
    expect(ran).toEqual({ code: 7, out: 'held\n', err: 'fishery hold: one remark\n' });
    expect(calls[0]?.settings).toEqual({ ports: 10, uplinks: ['a', 'b'], docs: false, mode: 'late', routes: [] });
    expect(calls[0]?.context.rest).toEqual(['haproxy', '-f', 'x', '--ports', '5']);
  });

  it('reads the environment that it is given', async () => {
    const { call, calls } = makeProgram();
    await call('hold --docs -- x', { FISHERY_PORTS: '5', FISHERY_DOCS: 'off' });
    expect(calls[0]?.settings).toMatchObject({ ports: 5, docs: true });
  });

  it('returns the exit code of the command', async () => {
    const { call } = makeProgram();
    expect((await call('agent --machine m1 down')).code).toBe(0);
    expect((await call('agent --machine m1')).code).toBe(1);
  });

  it('reports an unexpected exception as a bug, with its stack, and fails', async () => {
    const ran = await makeProgram().call('agent --machine broken');
    expect(ran.code).toBe(1);
    expect(ran.err).toMatch(/^fishery: TypeError: a bug\n +at /);
  });
});

describe('the configuration file', () => {
  let file = '';
  beforeAll(() => {
    file = join(mkdtempSync(join(tmpdir(), 'fishery-program-')), 'fishery.yaml');
    writeFileSync(file, 'hold:\n  ports: 3\n  routes:\n    - to: 192.0.2.0/24\nagent:\n  machine: m1\n');
  });
  afterAll(() => rmSync(join(file, '..'), { recursive: true }));

  it.each([
    ['--config', (path: string) => ({ line: `hold --config ${path} -- x`, env: {} })],
    ['FISHERY_CONFIG', (path: string) => ({ line: 'hold -- x', env: { FISHERY_CONFIG: path } })],
  ])('is named by %s and gives each command its section', async (_how, callFor) => {
    const { call, calls } = makeProgram();
    const { line, env } = callFor(file);
    expect((await call(line, env)).code).toBe(7);
    expect(calls[0]?.settings).toMatchObject({ ports: 3, routes: [{ to: '192.0.2.0/24' }] });
  });

  it('is told apart from the flags in a message', async () => {
    const { call } = makeProgram();
    expect((await call(`hold --config ${file} --ports x -- y`)).err).toBe(
      'fishery hold: --ports: got "x", expected a number\n',
    );
    expect((await call('hold --config absent.yaml -- y')).err).toBe(
      'fishery hold: config file absent.yaml: cannot be read (no such file)\n',
    );
  });
});

describe('wrong usage', () => {
  it.each([
    ['hodl', /^fishery: unknown command 'hodl'\n\(Did you mean hold\?\)/],
    ['hold --prots 5 -- x', /^fishery hold: unknown option '--prots'\n\(Did you mean --ports\?\)/],
    ['hold --ports', /^fishery hold: option '--ports <number>' argument missing/],
    ['hold --ports 0 -- x', /^fishery hold: --ports: got 0, expected a number of at least 1\n$/],
    ['hold --mode sideways -- x', /^fishery hold: --mode: got "sideways", expected one of: late, explicit\n$/],
    ['hold', /^fishery hold: expected the program to run after --\n$/],
    ['hold --', /^fishery hold: expected the program to run after --\n$/],
    ['hold haproxy', /^fishery hold: too many arguments/],
    ['agent', /^fishery agent: machine is required: set --machine, FISHERY_MACHINE or machine in a config file\n$/],
    ['agent --machine m sideways', /^fishery agent: action: got "sideways", expected one of: up, down\n$/],
    ['agent --machine m -- x', /^fishery agent: takes nothing after --\n$/],
    ['', /^Usage: fishery <command>/],
  ])('fishery %s: exit code 2, the reason on standard error, no stack', async (line, expected) => {
    const { call, calls } = makeProgram();
    const ran = await call(line);
    expect(ran.err).toMatch(expected);
    expect(ran.err).not.toMatch(/^ +at /m);
    expect(ran).toMatchObject({ code: exitCodes.usage, out: '' });
    expect(calls).toEqual([]);
  });
});

describe('help', () => {
  it('lists the commands without loading any', async () => {
    const { call, loaded } = makeProgram();
    const ran = await call('--help');
    expect(ran).toMatchObject({ code: 0, err: '' });
    expect(ran.out).toMatch(/hold +Hold ports\n +agent +Run the agent/);
    expect(ran.out).toContain('Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.');
    expect(loaded).toEqual([]);
  });

  it('shows flag, variable, default and description of each setting, and loads only that command', async () => {
    const { call, calls, loaded } = makeProgram();
    const { code, out } = await call('hold --help');
    const lines = out.replaceAll(/\n {4,}/g, ' ').split('\n');
    const line = (start: string) =>
      lines
        .find((text) => text.trim().startsWith(start))
        ?.trim()
        .replaceAll(/ +/g, ' ');
    expect(code).toBe(0);
    expect(line('Usage')).toBe('Usage: fishery hold [flags] -- <program...>');
    expect(line('--ports')).toBe('--ports <number> How many ports [FISHERY_PORTS, default 100]');
    expect(line('--uplinks')).toBe('--uplinks <text> Interfaces [FISHERY_UPLINKS, may be repeated]');
    expect(line('--docs')).toBe('--docs Serve the docs [FISHERY_DOCS, off: --no-docs, default true]');
    expect(line('--mode')).toBe('--mode <late|explicit> How ports are bound [FISHERY_MODE, default late]');
    expect(line('--config')).toContain('FISHERY_CONFIG');
    expect(line('--routes')).toBeUndefined();
    expect(out).toContain('Only in the file:\n  routes  Extra routes');
    expect(out).toContain('Example: fishery hold');
    expect([calls, loaded]).toEqual([[], ['hold']]);
  });

  it('shows positionals and what is required', async () => {
    const { out } = await makeProgram().call('agent --help');
    expect(out).toContain('Usage: fishery agent [flags] [action]');
    expect(out).toContain('What to do (one of: up, down)');
    expect(out).toContain('Its name [FISHERY_MACHINE, required]');
  });

  it.each(['--version', '-V'])('prints the version for %s', async (flag) => {
    expect(await makeProgram().call(flag)).toEqual({ code: 0, out: 'fishery 1.2.3\n', err: '' });
  });
});
