import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from '../support/tree.ts';

const launcher = join(root, 'bin', 'fishery.mjs');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

function fishery(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [launcher, ...args], { encoding: 'utf8', cwd: '/' });
  return { status, stdout, stderr };
}

describe('the fishery executable', () => {
  it('prints its version and that of its runtime', () => {
    expect(fishery('version')).toEqual({
      status: 0,
      stdout: `fishery ${manifest.version} (Node.js ${process.versions.node}, ${process.platform} ${process.arch})\n`,
      stderr: '',
    });
  });

  it('gives wrong usage the exit code 2', () => {
    expect(fishery('version', '--colour')).toMatchObject({ status: 2, stdout: '' });
  });

  it('shows its help without loading what a command would need', () => {
    const script = `process.argv = [process.argv[0], 'fishery', '--help'];
      process.on('exit', () => console.error(JSON.stringify(process.moduleLoadList)));
      await import(${JSON.stringify(join(root, 'src/bin/fishery.ts'))});`;
    const ran = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(ran.stdout).toContain('Usage: fishery');
    // Fastify, and every other way to serve or to call, loads node:http.
    expect(JSON.parse(ran.stderr)).not.toContain('NativeModule http');
  });
});
