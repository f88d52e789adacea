import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RealServer } from './support/real-server.ts';
import { root } from './support/tree.ts';

type Lockfile = { packages: Record<string, { dev?: boolean; link?: boolean }> };
type Manifest = { name: string; version: string; dependencies: Record<string, string> };
const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

let folder: string;
let project: string;
const manifest = readJson(join(root, 'package.json')) as Manifest;

/** The npm and Node.js of this machine, which are not those of the checkout. */
const outside = (process.env['PATH'] ?? '')
  .split(delimiter)
  .filter((place) => !place.includes('node_modules'))
  .join(delimiter);

type Ran = Readonly<{ status: number | string | null | undefined; stdout: string; stderr: string }>;

function run(command: string, args: readonly string[], cwd: string): Promise<Ran> {
  const env = { ...process.env, PATH: outside };
  return new Promise((resolve) => {
    execFile(command, args, { cwd, env }, (error, stdout, stderr) => {
      resolve({ status: error ? error.code : 0, stdout, stderr });
    });
  });
}

/** Node.js as the machine has it (a package is used with any from version 20 on), and as the lockfile pins it. */
const [machines = ''] = (await run('node', ['-p', 'process.execPath'], root)).stdout.split('\n');
const runtimes = await Promise.all(
  [...new Set([machines, process.execPath])].map(async (node) => ({
    node,
    version: (await run(node, ['-p', 'process.versions.node'], root)).stdout.trim(),
  })),
);

/**
 * An empty project with the tarball as its one dependency. The lockfile is what the checkout was installed by: so the
 * packages are those that npm has in its cache.
 */
async function install(tarball: string): Promise<void> {
  mkdirSync(project);
  const dependencies = { fishery: `file:${tarball}` };
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', version: '1.0.0', dependencies }));
  const { packages } = readJson(join(root, 'package-lock.json')) as Lockfile;
  const needed = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  const { version, dependencies: own } = manifest;
  const lockfile = {
    ...{ name: 'empty', version: '1.0.0', lockfileVersion: 3, requires: true },
    packages: {
      '': { name: 'empty', version: '1.0.0', dependencies },
      'node_modules/fishery': { version, resolved: dependencies.fishery, dependencies: own },
      ...Object.fromEntries(needed),
    },
  };
  writeFileSync(join(project, 'package-lock.json'), JSON.stringify(lockfile));
  const flags = ['--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const installed = await run('npm', ['ci', ...flags], project);
  expect(installed, installed.stderr).toMatchObject({ status: 0 });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-package-'));
  project = join(folder, 'project');
  const packed = await run('npm', ['pack', '--pack-destination', folder], root);
  expect(packed, packed.stderr).toMatchObject({ status: 0 });
  await install(join(folder, `fishery-${manifest.version}.tgz`));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inPackage = (...path: string[]) => join(project, 'node_modules', 'fishery', ...path);

describe('the packed tarball', () => {
  it('has compiled programs and their types, and no source', () => {
    expect(readdirSync(inPackage()).toSorted()).toEqual(
      [
        'CHANGELOG.md',
        'LICENSE',
        'README.md',
        'bin',
        'dist',
        'docs',
        'migrations',
        'openapi',
        'package.json',
      ].toSorted(),
    );
    const files = readdirSync(inPackage('dist'), { recursive: true, encoding: 'utf8' }).filter((path) =>
      path.includes('.'),
    );
    // The program built from it has no dot in its name, and is there if the machine has a compiler.
    expect(files.filter((path) => !/\.(?:js|d\.ts)$/.test(path))).toEqual([join('keeper', 'native', 'keeper.c')]);
    expect(files).toEqual(expect.arrayContaining([join('sdk', 'index.js'), join('sdk', 'index.d.ts')]));
  });

  describe.each(runtimes)('on Node.js $version', ({ node, version }) => {
    const fishery = (...args: string[]) => run(node, [inPackage('bin', 'fishery.mjs'), ...args], project);

    it('shows the help of the program', async () => {
      const { status, stdout, stderr } = await fishery('--help');
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toContain('Usage: fishery <command>');
      expect((await fishery('version')).stdout).toContain(`fishery ${manifest.version} (Node.js ${version}`);
    });

    it('has a client that talks to a server', async () => {
      await using server = await RealServer.start();
      await server.client.pools.create({ id: 'p', prefixes: ['198.51.100.0/28'] });
      const script = `
        import { FisheryClient, isFisheryError } from 'fishery/client';
        const client = new FisheryClient({ url: process.argv[1], token: process.argv[2] });
        const refused = await client.pools.get('none').catch((error) => isFisheryError(error, 'pool_not_found'));
        console.log(JSON.stringify([(await client.pools.list()).items.map(({ id }) => id), refused]));`;
      const child = await run(node, ['--input-type=module', '-e', script, server.url, server.secret], project);
      expect(child).toEqual({ status: 0, stdout: '[["p"],true]\n', stderr: '' });
    });

    it('runs a server where its libraries do, and says so where they do not', async () => {
      const { status, stderr } = await fishery('migrate', '--data-dir', join(folder, `data-${version}`));
      if (Number.parseInt(version) >= 24) expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      else
        expect({ status, stderr }).toEqual({
          status: 1,
          stderr: `fishery migrate: needs Node.js 24 or newer, this is ${version}\n`,
        });
    });
  });

  it('types a program that imports the client', async () => {
    symlinkSync(join(root, 'node_modules', '@types'), join(project, 'node_modules', '@types'));
    const compilerOptions = { strict: true, module: 'nodenext', target: 'es2022', noEmit: true, types: ['node'] };
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['right.mts', 'wrong.mts'] }),
    );
    const source = (prefixes: string) => `
      import { FisheryClient, type FisheryError } from 'fishery/client';
      const client = new FisheryClient({ url: 'http://127.0.0.1:7480', token: 't' });
      const pool = await client.pools.create({ id: 'p', prefixes: ${prefixes} });
      export const first: number = pool.usable_ports.first;
      export const codeOf = (error: FisheryError): string => error.code;`;
    writeFileSync(join(project, 'right.mts'), source(`['192.0.2.0/24']`));
    writeFileSync(join(project, 'wrong.mts'), source('17'));
    for (const compiler of ['typescript', 'typescript-native']) {
      const { stdout } = await run(
        process.execPath,
        [join(root, 'node_modules', compiler, 'bin', 'tsc'), '-p', '.'],
        project,
      );
      expect(stdout.trim().split('\n')).toEqual([expect.stringMatching(/^wrong\.mts\(4,.*TS2322/)]);
    }
  });
});
