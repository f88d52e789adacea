import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { leaseStates } from '../../src/wire/leases.ts';
import type { Tables } from './memory-store.ts';
import type { World } from './world.ts';

/** A machine with two slices of 256 ports that need no rest; the number of its session. */
export async function furnishForLoad(world: World): Promise<number> {
  await world.pool('v4', ['198.51.100.0/32'], { slicePorts: 256, cooldownUs: { tcp: 0, udp: 0, icmp: 0 } });
  await world.machine('edge-1');
  await world.holder('edge-1', 'web');
  await world.ready('edge-1', 'v4', 2);
  return (await world.session('edge-1', 'web', 3_600)).id;
}

/**
 * Puts a server's core on the store under load, in a process of its own, and kills it after so many answers. What was
 * answered last about each lease; a line that was cut off was not said.
 */
export async function killUnderLoad(where: string, session: number, answers: number): Promise<Map<number, string>> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'load-store.ts'), where, String(session)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  let lines = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    lines += text.split('\n').length - 1;
    if (lines >= answers) child.kill('SIGKILL');
  });
  await once(child, 'close');
  if (child.signalCode !== 'SIGKILL') throw new Error(`the load ended by itself, with ${child.exitCode}`);
  const said = new Map<number, string>();
  for (const line of output.split('\n').slice(0, -1)) {
    const [id, state] = line.split(' ');
    said.set(Number(id), state ?? '');
  }
  return said;
}

/** The leases that the table knows less of than was answered. */
export function lostOf(said: ReadonlyMap<number, string>, tables: Tables): readonly (readonly [number, string])[] {
  const order: readonly string[] = leaseStates;
  return [...said].filter(([id, state]) => order.indexOf(tables.leases.get(id)?.state ?? '') < order.indexOf(state));
}
