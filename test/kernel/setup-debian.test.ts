import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { root } from '../support/tree.ts';

/**
 * The script as root on Debian, with an apt-get and a dpkg-query of our own in front, so that nothing is installed
 * here: `installed` lists the packages that are there, `offered` whether the package lists are good.
 */
let folder = '';
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-setup-'));
  chmodSync(folder, 0o755);
  stub('dpkg-query', `for name; do :; done; grep -qx "$name" ${at('installed')} && printf installed`);
  stub(
    'apt-get',
    `echo "$@" >> ${at('calls')}
    [ "$1" = update ] && { touch ${at('offered')}; exit 0; }
    [ -f ${at('offered')} ] || exit 100
    for name; do case $name in install|-*) ;; *) echo $name >> ${at('installed')};; esac; done`,
  );
  writeFileSync(at('installed'), 'nftables\nprocps\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

function stub(name: string, script: string) {
  writeFileSync(at(name), `#!/bin/bash\n${script}\n`, { mode: 0o755 });
}

function setup(args: string[] = [], options: { uid?: number; path?: string } = {}) {
  const { uid = 0, path = `${folder}:${process.env['PATH']}` } = options;
  // Read from standard input: another user may not be able to reach the checkout.
  const input = readFileSync(join(root, 'scripts', 'setup-debian'), 'utf8');
  const ran = spawnSync('/bin/bash', ['-s', '--', ...args], {
    input,
    uid,
    env: { PATH: path },
    cwd: '/',
    encoding: 'utf8',
  });
  const calls = existsSync(at('calls')) ? readFileSync(at('calls'), 'utf8').trim().split('\n') : [];
  return { status: ran.status, stdout: ran.stdout, stderr: ran.stderr, calls };
}

const missing =
  'iproute2 iputils-ping haproxy nginx libnginx-mod-stream curl tcpdump iperf3 traceroute ethtool conntrack dnsutils gcc libc6-dev systemd';
const install = `install --yes --no-install-recommends ${missing}`;

describe('setup-debian', () => {
  it('installs what is missing and nothing else, and is done after that', () => {
    writeFileSync(at('offered'), '');
    expect(setup()).toMatchObject({ status: 0, calls: [install] });
    expect(setup()).toMatchObject({
      status: 0,
      calls: [install],
      stderr: expect.stringContaining('nothing to do') as string,
    });
  });

  it('fetches the package lists only when the installation failed without', () => {
    expect(setup()).toMatchObject({ status: 0, calls: [install, 'update', install] });
  });

  it('fails when the second try fails', () => {
    stub('apt-get', 'exit 100');
    expect(setup().status).toBe(100);
  });

  it('lists what is missing for --check and installs nothing', () => {
    expect(setup(['--check'])).toMatchObject({ status: 1, stdout: `${missing.replaceAll(' ', '\n')}\n`, calls: [] });
    writeFileSync(at('offered'), '');
    setup();
    expect(setup(['--check'])).toMatchObject({ status: 0, stdout: '' });
  });

  it('refuses without root and says what for', () => {
    const stderr = `setup-debian: needs root to install: ${missing}\n`;
    expect(setup([], { uid: 65_534 })).toEqual({ status: 1, stdout: '', stderr, calls: [] });
  });

  it('refuses where there is no apt-get, and lists what to install by other means', () => {
    rmSync(at('apt-get'));
    for (const tool of ['bash', 'grep', 'printf']) symlinkSync(`/usr/bin/${tool}`, at(tool));
    const ran = setup([], { path: folder });
    expect(ran).toMatchObject({ status: 1, calls: [] });
    expect(ran.stderr).toContain('this is not Debian');
    expect(ran.stderr).toContain('haproxy       kernel tests');
  });

  it('refuses an argument that it does not know', () => {
    expect(setup(['--force'])).toMatchObject({ status: 2, calls: [] });
  });
});
