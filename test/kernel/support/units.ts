import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../support/tree.ts';
import { bin } from './agent-lab.ts';

/** Where systemd has the folders that a unit names, which stay writable for it. */
const places = { RuntimeDirectory: '/run', StateDirectory: '/var/lib', CacheDirectory: '/var/cache' } as const;

/**
 * A command of a unit as the unit has it, as far as that is to be had without systemd: with its capabilities and no others, no new
 * privileges, and a file system that is read-only but for its own folders. `replaced`: words of it that are others in a test.
 */
export function asUnit(
  unit: string,
  key: 'ExecStart' | 'ExecStop',
  replaced: Readonly<Record<string, string>> = {},
): readonly string[] {
  const lines = readFileSync(join(root, 'packaging/systemd', `${unit}.service`), 'utf8').split('\n');
  const valueOf = (name: string) => lines.find((line) => line.startsWith(`${name}=`))?.slice(name.length + 1);
  const [program, ...args] = (valueOf(key) ?? '').replace(/^-/, '').split(' ');
  const capabilities = valueOf('CapabilityBoundingSet');
  if (program !== '/usr/bin/fishery' || capabilities === undefined || valueOf('ProtectSystem') !== 'strict')
    throw new Error(`${unit}: its ${key}, its capabilities or its walls are not what they were`);
  const writable = Object.entries(places).flatMap(([name, place]) => {
    const folder = valueOf(name);
    return folder === undefined ? [] : [join(place, folder)];
  });
  const walls = [
    'mount --make-rprivate /',
    ...writable.map((folder) => `mkdir -p ${folder}; mount --bind ${folder} ${folder}`),
    'mount -o remount,bind,ro /',
    'exec "$@"',
  ];
  const kept = capabilities.split(' ').map((name) => `+${name.replace('CAP_', '').toLowerCase()}`);
  return [
    ...['unshare', '--mount', 'sh', '-ec', walls.join('\n'), unit],
    ...['setpriv', '--bounding-set', ['-all', ...kept].join(','), '--inh-caps=-all', '--no-new-privs'],
    ...[process.execPath, bin, ...args.map((word) => replaced[word] ?? word)],
  ];
}
