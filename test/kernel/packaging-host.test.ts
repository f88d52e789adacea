import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { root } from '../support/tree.ts';

/**
 * Installing on a host and taking it away, in a root of its own: mount and network namespace, nothing of this machine but
 * /usr, which nobody writes to. The program is a stand-in that notes what it is asked; the table is the kernel's.
 */
let folder: string;

const program = `#!/bin/sh
shift
echo "$*" >> /var/asked
case "$1 \${2:-}" in
  'version '*) echo 'fishery 0' ;;
  # It finds what the agent wrote down, and the table goes, only with the agent's own settings.
  'agent down') case "$*" in *right*) nft delete table inet fishery ;; esac ;;
esac
`;
const prepare = `
set -e
mount --make-rprivate /
mount -t tmpfs none "$1"
cd "$1"
mkdir usr etc run var opt tmp proc dev srv var/lib
mount --rbind /usr usr
for each in sysusers.d tmpfiles.d; do mount -t tmpfs none "usr/lib/$each"; done
for each in bin sbin lib lib64; do ln -s "usr/$each" "$each"; done
mount -t proc none proc
mount --rbind /dev dev
mount --bind "$2/tree" srv
cp /etc/passwd /etc/group etc/
exec env -i PATH=/usr/sbin:/usr/bin PREFIX=/opt/fishery chroot . /bin/sh -euc "$3"
`;

/** What the script prints, in a root that is empty before and gone after. */
function inRoot(script: string): string {
  const args = ['--mount', '--net', '--pid', '--fork', '--kill-child', '/bin/sh', '-c', prepare, 'sh'];
  const done = spawnSync('unshare', [...args, join(folder, 'root'), folder, script], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`exit code ${done.status}: ${done.stdout}${done.stderr}`);
  return done.stdout;
}
const lib = '/opt/fishery/lib/fishery';
const uninstall = 'sh /srv/packaging/uninstall';
const files = `find /opt /etc/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d ! -type d | sort`;
const table = 'nft add table inet fishery';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-host-'));
  mkdirSync(join(folder, 'root'));
  const tree = join(folder, 'tree');
  for (const each of ['runtime', 'dist', 'node_modules', 'bin']) mkdirSync(join(tree, each), { recursive: true });
  cpSync(join(root, 'packaging'), join(tree, 'packaging'), { recursive: true });
  writeFileSync(join(tree, 'runtime/node'), program);
  chmodSync(join(tree, 'runtime/node'), 0o755);
  writeFileSync(join(tree, 'dist/large'), Buffer.alloc(2_000_000, 1));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('leaves what is installed as it was when the disk is full, and does not begin what cannot be ended', () => {
  const script = `
    mkdir /opt/fishery; mount -t tmpfs -o size=3m none /opt/fishery
    /srv/packaging/install 2>/dev/null
    echo of-before > ${lib}/dist/small
    ${files} > /tmp/before
    if /srv/packaging/install 2>/tmp/why; then echo 'it fits'; exit 1; fi
    ${files} | diff /tmp/before -
    cat ${lib}/dist/small; /opt/fishery/bin/fishery version; tail -n 1 /tmp/why`;
  expect(inRoot(script)).toBe(
    'of-before\nfishery 0\ninstall: not installed: see above. What was here before is as it was\n',
  );
});

it.each([
  ['beside nothing', ''],
  ['beside an older one', '/srv/packaging/install 2>/dev/null'],
])('that was killed in the middle of installing %s is cleaned up, and installed over', (_name, before) => {
  const script = `
    ${before}
    # Killed when it wrote the last of what stands outside of its folder.
    mkdir /tmp/bin; printf '#!/bin/sh\\nkill -KILL $PPID\\n' > /tmp/bin/sync; chmod 755 /tmp/bin/sync
    PATH=/tmp/bin:$PATH /srv/packaging/install 2>/dev/null || echo killed
    ls -d ${lib}.new
    ${uninstall}
    ${files}
    PATH=/tmp/bin:$PATH /srv/packaging/install 2>/dev/null || echo killed
    /srv/packaging/install 2>/dev/null
    ${files} | grep -e new -e old || ls ${lib}/installed-files`;
  expect(inRoot(script)).toBe(`killed\n${lib}.new\nkilled\n${lib}/installed-files\n`);
});

it('goes on between the two renames', () => {
  const script = `
    /srv/packaging/install 2>/dev/null
    mv ${lib} ${lib}.old
    /srv/packaging/install 2>/dev/null
    ls -d ${lib}*; /opt/fishery/bin/fishery version`;
  expect(inRoot(script)).toBe(`${lib}\nfishery 0\n`);
});

it('puts the host back with the settings that the unit names, drop-ins included', () => {
  const script = `
    /srv/packaging/install 2>/dev/null
    mkdir -p /etc/fishery /etc/systemd/system/fishery-agent.service.d
    echo 'agent: {}' > /etc/fishery/agent.yaml
    printf 'agent:\\n  state_dir: /var/lib/mine\\n' > /etc/right.yaml
    printf '[Service]\\nExecStart=\\nExecStart=/opt/fishery/bin/fishery agent --config /etc/right.yaml --machine m\\n' \
      > /etc/systemd/system/fishery-agent.service.d/mine.conf
    ${table}
    : > /var/asked
    ${uninstall}
    cat /var/asked
    ${files}`;
  expect(inRoot(script)).toBe(
    'version\nagent down --config /etc/right.yaml --machine m\n/etc/systemd/system/fishery-agent.service.d/mine.conf\n',
  );
});

it('removes nothing while the table is still there, and takes the settings that it is told', () => {
  const script = `
    /srv/packaging/install 2>/dev/null
    ${table}
    touch /etc/right.yaml
    ${uninstall} 2>&1 || echo "exit code $?"
    ls ${lib}/installed-files
    ${uninstall} --config /etc/nowhere.yaml 2>&1 || echo "exit code $?"
    ${uninstall} --config /etc/right.yaml
    ${files}`;
  expect(inRoot(script).split('\n')).toEqual([
    'uninstall: table inet fishery is still there, so the host is not as it was. Name the settings of the agent: --config FILE',
    'exit code 1',
    `${lib}/installed-files`,
    'uninstall: --config: expected the path of a settings file of the agent',
    'exit code 2',
    '',
  ]);
});

it('takes a program away that does not run, unless an agent was here', () => {
  const script = `
    /srv/packaging/install 2>/dev/null
    rm ${lib}/runtime/node
    ${table}
    ${uninstall} 2>&1 || echo "exit code $?"
    nft delete table inet fishery
    ${uninstall}
    ${files}`;
  expect(inRoot(script)).toMatch(/^uninstall: the agent was here, and .* does not run: .*\nexit code 1\n$/);
});
