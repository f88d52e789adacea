import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageVersion } from '../../src/ops/version.ts';
import { root } from '../support/tree.ts';

/** The real package, installed into an image of a system: needs neither root nor a network. */
let folder: string;
let tree: string;

function run(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const done = spawnSync(command, args, { encoding: 'utf8', env: { PATH: process.env['PATH'] ?? '', ...env } });
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
}
const everything = (image: string) => (existsSync(image) ? readdirSync(image, { recursive: true }) : []);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-install-'));
  tree = join(folder, 'tree');
  const made = run(process.execPath, [join(root, 'scripts/assemble.ts'), tree]);
  if (made.status !== 0) throw new Error(made.stderr);
}, 240_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the assembled package', () => {
  it('runs with the Node.js that it brings, and has no development dependency and no source', () => {
    const ran = run(join(tree, 'runtime/node'), [join(tree, 'bin/fishery.mjs'), 'version']);
    expect(ran.stdout).toContain(`fishery ${packageVersion()}`);
    expect(readdirSync(tree).toSorted()).toEqual(
      expect.arrayContaining(['bin', 'dist', 'docs', 'migrations', 'node_modules', 'packaging', 'runtime']),
    );
    for (const path of ['src', 'test', 'node_modules/vitest', 'node_modules/node', 'packaging/try-in-clean-root'])
      expect(existsSync(join(tree, path))).toBe(false);
  });

  it('is not written over something else', () => {
    const again = run(process.execPath, [join(root, 'scripts/assemble.ts'), tree]);
    expect(again).toMatchObject({ status: 1, stderr: `assemble: ${tree} is not empty\n` });
  });
});

describe.each([
  { prefix: '/usr', units: '/usr/lib/systemd/system' },
  { prefix: '/opt/fishery', units: '/etc/systemd/system' },
])('installed into $prefix', ({ prefix, units }) => {
  const image = () => join(folder, `image${prefix.replaceAll('/', '-')}`);
  const env = () => ({ DESTDIR: image(), PREFIX: prefix, LINK: 'yes' });
  const at = (path: string) => join(image(), path);
  const uninstall = (...args: readonly string[]) => run(at(`${prefix}/lib/fishery/packaging/uninstall`), args, env());

  it('puts program and units in their places, and the second time nothing else', () => {
    expect(run(join(tree, 'packaging/install'), [], env())).toMatchObject({ status: 0, stderr: '' });
    const first = everything(image());
    expect(readFileSync(at(`${prefix}/bin/fishery`), 'utf8')).toBe(
      `#!/bin/sh\nexec ${prefix}/lib/fishery/runtime/node ${prefix}/lib/fishery/bin/fishery.mjs "$@"\n`,
    );
    expect(statSync(at(`${prefix}/bin/fishery`)).mode & 0o777).toBe(0o755);
    for (const name of ['server', 'agent', 'keeper@']) {
      const unit = readFileSync(at(`${units}/fishery-${name}.service`), 'utf8');
      expect(unit).toContain(`ExecStart=${prefix}/bin/fishery ${name.replace('@', '')} `);
      expect(unit).toContain(`file://${prefix}/lib/fishery/docs/install.md`);
    }
    expect(existsSync(at(`${prefix}/lib/fishery/docs/install.md`))).toBe(true);
    writeFileSync(at(`${prefix}/lib/fishery/left-by-an-older-version`), '');
    expect(run(join(tree, 'packaging/install'), [], env())).toMatchObject({ status: 0 });
    expect(everything(image())).toEqual(first);
  });

  it('leaves nothing behind when it goes', () => {
    expect(uninstall('--what')).toMatchObject({ status: 2 });
    expect(uninstall('--purge')).toMatchObject({ status: 0, stderr: '' });
    expect(everything(image())).toEqual([]);
  });
});

describe('install', () => {
  it('refuses what is no package, and a prefix that is not absolute', () => {
    const bare = run(join(root, 'packaging/install'), [], { DESTDIR: join(folder, 'x') });
    expect(bare.status).toBe(1);
    expect(bare.stderr).toContain('is not a built package');
    const relative = run(join(tree, 'packaging/install'), [], { DESTDIR: join(folder, 'x'), PREFIX: 'usr' });
    expect(relative).toMatchObject({ status: 1, stderr: 'install: PREFIX must be an absolute path, got "usr"\n' });
    expect(existsSync(join(folder, 'x'))).toBe(false);
  });

  it('keeps what others have in the same folders, and settings unless told otherwise', () => {
    const image = join(folder, 'shared');
    const env = { DESTDIR: image, LINK: 'yes' };
    run(join(tree, 'packaging/install'), [], env);
    const theirs = join(image, 'usr/lib/systemd/system/other.service');
    writeFileSync(theirs, '');
    spawnSync('mkdir', ['-p', join(image, 'etc/fishery')]);
    writeFileSync(join(image, 'etc/fishery/agent.yaml'), 'agent: {}\n');
    expect(run(join(image, 'usr/lib/fishery/packaging/uninstall'), [], env)).toMatchObject({ status: 0 });
    expect(everything(image).toSorted()).toEqual([
      'etc',
      'etc/fishery',
      'etc/fishery/agent.yaml',
      'usr',
      'usr/lib',
      'usr/lib/systemd',
      'usr/lib/systemd/system',
      'usr/lib/systemd/system/other.service',
    ]);
  });
});
