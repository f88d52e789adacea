import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { completionScripts } from '../../src/cli/completion/scripts.ts';
import { RealServer } from '../support/real-server.ts';
import { runFishery } from '../support/run-fishery.ts';
import { root } from '../support/tree.ts';

let server: RealServer;
let folder: string;
beforeAll(async () => {
  server = await RealServer.start();
  folder = mkdtempSync(join(tmpdir(), 'fishery-completion-'));
  await server.client.pools.create({ id: 'demo', prefixes: ['198.51.100.0/28'] });
  for (const id of ['edge-1', 'edge-2']) await server.client.machines.create({ id, enforcement: 'none' });
  await server.client.machines.putHolder('edge-1', 'web', { kind: 'proxy' });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const env = () => ({ FISHERY_SERVER: server.url, FISHERY_TOKEN: server.secret });
/** What is offered at the end of this line; a space at its end begins a new word. */
async function offered(line: string, more: Record<string, string> = {}): Promise<readonly string[]> {
  const { code, out, err } = await runFishery(['complete', '--', ...line.split(' ')], { env: { ...env(), ...more } });
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out
    .split('\n')
    .filter(Boolean)
    .map((text) => text.split('\t')[0] ?? '');
}

describe('completion', () => {
  it('offers commands and verbs, with what they do', async () => {
    expect(await offered('s')).toEqual(expect.arrayContaining(['server', 'slices', 'sessions', 'status']));
    expect(await offered('')).not.toContain('complete');
    expect(await offered('pools ')).toEqual(expect.arrayContaining(['list', 'get', 'create']));
    const { out } = await runFishery(['complete', '--', 'pools', 'li']);
    expect(out).toBe('list\tList pools\n');
  });

  it('offers flags, once, and their choices', async () => {
    expect(await offered('leases list --st')).toEqual(['--state']);
    expect(await offered('leases list --state active --st')).toEqual([]);
    expect(await offered('pools create p --prefix 192.0.2.0/24 --pre')).toEqual(['--prefix']);
    expect(await offered('leases list --state e')).toEqual(['ending', 'ended']);
    expect(await offered('agent ')).toEqual(['up', 'down', 'shut', 'open', 'guard']);
    expect(await offered('completion ')).toEqual(['bash', 'zsh', 'fish']);
  });

  it('asks the server for names, by what stands at a place', async () => {
    expect(await offered('machines get ')).toEqual(['edge-1', 'edge-2']);
    expect(await offered('slices assign demo edge-')).toEqual(['edge-1', 'edge-2']);
    expect(await offered('slices list --pool ')).toEqual(['demo']);
    expect(await offered('holders put edge-1 ')).toEqual(['web']);
    expect(await offered('machines get edge-1 ')).toEqual([]);
  });

  it('leaves files to the shell', async () => {
    expect(await offered('pools list --token-file ')).toEqual([':files']);
    expect(await offered('server --config ')).toEqual([':files']);
  });

  it('is silent where nothing is known, the server is away, or the words make no sense', async () => {
    expect(await offered('machines get ', { FISHERY_SERVER: 'http://127.0.0.1:65535' })).toEqual([]);
    expect(await offered('machines get ', { FISHERY_TOKEN: '' })).toEqual([]);
    expect(await offered('machines gett ')).toEqual([]);
    expect(await offered('nonsense and ')).toEqual([]);
  });
});

describe('the script for bash', () => {
  it('completes in a real bash', async () => {
    const bin = join(folder, 'fishery');
    writeFileSync(bin, `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'src/bin/fishery.ts')}' "$@"\n`);
    chmodSync(bin, 0o755);
    const complete = async (...words: string[]) => {
      const script = `${completionScripts.bash}
        COMP_WORDS=(fishery "$@"); COMP_CWORD=$#
        compopt() { echo "compopt $*"; }
        _fishery; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const path = { ...process.env, ...env(), PATH: `${folder}:${process.env['PATH'] ?? ''}` };
      const { stdout } = await promisify(execFile)('bash', ['-uc', script, 'bash', ...words], { env: path });
      return stdout.split('\n').filter(Boolean);
    };
    expect(await complete('pools', 'l')).toEqual(['list']);
    expect(await complete('machines', 'get', '')).toEqual(['edge-1', 'edge-2']);
    expect(await complete('pools', 'list', '--token-file', '')).toEqual(['compopt -o default']);
    expect(await complete('machines', 'get', 'nothing')).toEqual([]);
  });

  it.each(['bash', 'zsh', 'fish'])('is printed for %s', async (shell) => {
    const { code, out } = await runFishery(['completion', shell]);
    expect(code).toBe(0);
    expect(out).toContain(`fishery: completion for ${shell}`);
  });
});
