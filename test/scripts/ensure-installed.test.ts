import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { root as projectRoot } from '../support/tree.ts';

/** What the module exports; it is plain JavaScript, because it has to run before anything is installed. */
type Module = {
  whatIsAmiss: (root: string) => string | undefined;
  ensureInstalled: (options: { root: string; env: NodeJS.ProcessEnv; log: (line: string) => void }) => Promise<boolean>;
};
const modulePath = join(projectRoot, 'scripts', 'ensure-installed.mjs');
const { ensureInstalled, whatIsAmiss } = (await import(modulePath)) as Module;

/** Stands for npm: notes each call, and "installs" a Node.js that prints the version it is told to. */
const stubNpm = `#!/bin/sh
echo "$@" >> calls
echo "$PATH" > path
[ -f fail ] && { echo 'npm error code E503' >&2; exit 1; }
rm -rf node_modules
[ -f slow ] && sleep 0.4
mkdir -p node_modules/node/bin node_modules/left-pad
echo '{}' > node_modules/node/package.json
echo '{}' > node_modules/left-pad/package.json
[ -f no-binary ] && exit 0
printf '#!/bin/sh\\necho v24.0.1\\n' > node_modules/node/bin/node
chmod +x node_modules/node/bin/node
`;

let folder = '';
let root = '';
let env: NodeJS.ProcessEnv = {};
let said: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-ensure-'));
  root = join(folder, 'checkout');
  mkdirSync(root);
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin', 'npm'), stubNpm, { mode: 0o755 });
  env = { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}:${join(folder, 'bin')}:${process.env['PATH']}` };
  said = [];
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({ dependencies: { 'left-pad': '1.0.0' }, devDependencies: { node: '24.0.1' } }),
  );
  writeFileSync(join(root, 'package-lock.json'), '{"one": 1}');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ensure = () => ensureInstalled({ root, env, log: (line) => said.push(line) });
const put = (name: string, text = '') => writeFileSync(join(root, name), text);
const calls = () =>
  existsSync(join(root, 'calls')) ? readFileSync(join(root, 'calls'), 'utf8').trim().split('\n') : [];
const locks = () => readdirSync(root).filter((name) => name.startsWith('.install-lock'));

describe('what npm installed by itself', () => {
  const packages = {
    '': { version: '0.1.0' },
    'node_modules/left-pad': { version: '1.0.0', integrity: 'sha512-a' },
    'node_modules/for-macs': { version: '1.0.0', integrity: 'sha512-b', optional: true },
  };
  const byHand = (installed: object) => {
    put('node_modules/.package-lock.json', JSON.stringify({ packages: installed }));
    rmSync(join(root, 'node_modules/.fishery-installed'));
  };
  beforeEach(async () => {
    put('package-lock.json', JSON.stringify({ packages }));
    await ensure();
    said = [];
  });

  it('is taken as it is when it is what the lockfile says', async () => {
    byHand({ 'node_modules/left-pad': packages['node_modules/left-pad'] });
    expect([whatIsAmiss(root), await ensure(), said]).toEqual([undefined, false, []]);
    expect(calls()).toHaveLength(1);
  });

  it.each([
    ['another version', { 'node_modules/left-pad': { version: '1.0.1', integrity: 'sha512-a' } }],
    ['other contents', { 'node_modules/left-pad': { version: '1.0.0', integrity: 'sha512-c' } }],
    ['a package less', {}],
  ])('is installed anew where it has %s', async (_, installed) => {
    byHand(installed);
    expect(await ensure()).toBe(true);
    expect(said[0]).toContain('because node_modules is not what package-lock.json says');
    expect(calls()).toHaveLength(2);
  });
});

describe('installing', () => {
  it('happens once, and is silent and idle after that', async () => {
    expect(whatIsAmiss(root)).toBe('node_modules is missing');
    expect(await ensure()).toBe(true);
    expect(said).toEqual([
      expect.stringMatching(/because node_modules is missing/),
      expect.stringMatching(/installed in \d+ s/),
    ]);
    said = [];
    expect([whatIsAmiss(root), await ensure(), said]).toEqual([undefined, false, []]);
    expect(calls()).toEqual(['ci --include=dev --no-audit --no-fund']);
    expect(locks()).toEqual([]);
  });

  it.each([
    ['the lockfile changed', () => put('package-lock.json', '{"two": 2}'), 'package-lock.json has changed'],
    [
      'a dependency is gone',
      () => rmSync(join(root, 'node_modules/left-pad'), { recursive: true }),
      'left-pad is missing',
    ],
    ['the binary is gone', () => rmSync(join(root, 'node_modules/node/bin/node')), 'Node.js v24.0.1 does not run'],
    ['the binary is broken', () => put('node_modules/node/bin/node', 'x'), 'Node.js v24.0.1 does not run'],
    [
      'an installation was cut off',
      () => rmSync(join(root, 'node_modules/.fishery-installed')),
      'is not what package-lock.json says',
    ],
  ])('happens again when %s', async (_what, spoil, reason) => {
    await ensure();
    spoil();
    expect(whatIsAmiss(root)).toContain(reason);
    expect(await ensure()).toBe(true);
    expect(calls()).toHaveLength(2);
    expect(whatIsAmiss(root)).toBeUndefined();
  });

  it('keeps the Node.js that it is about to replace out of PATH', async () => {
    await ensure();
    const path = readFileSync(join(root, 'path'), 'utf8').trim().split(':');
    expect(path).toContain(join(folder, 'bin'));
    expect(path).not.toContain(join(root, 'node_modules', '.bin'));
  });
});

describe('failing', () => {
  it('shows what npm said, and tries again the next time', async () => {
    put('fail');
    await expect(ensure()).rejects.toThrow(/npm ci ended with 1\.\nnpm error code E503\n/);
    expect(locks()).toEqual([]);
    rmSync(join(root, 'fail'));
    expect(await ensure()).toBe(true);
  });

  it('says so when npm succeeded without bringing the binary, every time', async () => {
    put('no-binary');
    await expect(ensure()).rejects.toThrow(
      /npm ci succeeded, but the pinned Node.js v24.0.1 does not run.*ignore-scripts/,
    );
    await expect(ensure()).rejects.toThrow(/npm ci succeeded, but/);
  });

  it("does not happen through a link: what is behind it is another checkout's", async () => {
    const other = join(folder, 'other');
    mkdirSync(other);
    writeFileSync(join(other, 'kept'), '');
    symlinkSync(other, join(root, 'node_modules'));
    await expect(ensure()).rejects.toThrow(
      /node_modules is not what package-lock.json says; but .*node_modules is a link/,
    );
    expect([calls(), readdirSync(other), locks()]).toEqual([[], ['kept'], []]);
  });

  it('says so when there is no npm', async () => {
    env = { PATH: join(folder, 'nowhere') };
    await expect(ensure()).rejects.toThrow('npm was not found in PATH');
  });

  it('says so when the folder cannot be written', async () => {
    rmSync(root, { recursive: true });
    await expect(ensure()).rejects.toThrow(`${root} cannot be written to (ENOENT)`);
  });
});

/** Another process that ensures the same folder; resolves to its exit code. */
function elsewhere(): Promise<number | null> {
  const script = `import { ensureInstalled } from ${JSON.stringify(modulePath)};
    await ensureInstalled({ root: ${JSON.stringify(root)} });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return new Promise((resolve) => child.on('exit', resolve));
}

function putLock(owner: { host: string; pid: number }) {
  mkdirSync(join(root, '.install-lock'));
  put('.install-lock/owner', JSON.stringify(owner));
}

describe('several at once', () => {
  it('install once, and all find it installed', async () => {
    put('slow');
    const processes = Array.from({ length: 6 }, () => elsewhere());
    expect(await Promise.all(processes)).toEqual(processes.map(() => 0));
    expect(calls()).toHaveLength(1);
    expect(locks()).toEqual([]);
  });

  it('do not wait for one that died', async () => {
    const { pid } = spawnSync('true');
    putLock({ host: hostname(), pid });
    expect(await ensure()).toBe(true);
    expect(locks()).toEqual([]);
  });

  it('wait for one that lives, and say so', async () => {
    putLock({ host: hostname(), pid: process.pid });
    const waiting = ensure();
    await expect.poll(() => said).toEqual([expect.stringContaining('waiting for it')]);
    expect(calls()).toEqual([]);
    rmSync(join(root, '.install-lock'), { recursive: true });
    expect(await waiting).toBe(true);
  });

  it('do not wait for one on another machine that has given no sign of life for a minute', async () => {
    putLock({ host: 'elsewhere', pid: 1 });
    spawnSync('touch', ['-d', '2 minutes ago', join(root, '.install-lock')]);
    expect(await ensure()).toBe(true);
  });
});
