/**
 * A PostgreSQL server for one test run, in a process of its own: it says `{"url":…,"pid":…}` on standard output when it is
 * ready, and ends when its standard input does, whatever ended the other side. Nothing is left behind. With `--standby` a
 * second one follows the first, and is told of as `standby`.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  appendFileSync,
  chownSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nativeFolder, runnableFolder, serverUser } from './binaries.ts';

const prefix = 'fishery-postgres-';
const password = 'not-a-secret';
const young_ms = 60_000;

/** What a run left behind that was killed together with its keeper: its server still runs, or only its files are there. */
async function clearLeftovers(): Promise<void> {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const folder = join(tmpdir(), name);
    const { uid, birthtimeMs } = statSync(folder);
    if (uid !== process.getuid?.()) continue;
    const keeper = Number(readOr(join(folder, 'keeper.pid')));
    // A folder without a keeper's number may be one that another run has only just begun.
    if (keeper > 0 ? isAlive(keeper) : Date.now() - birthtimeMs < young_ms) continue;
    for (const name of ['data', 'standby']) {
      const server = Number(readOr(join(folder, name, 'postmaster.pid')).split('\n')[0]);
      if (server > 0 && isPostgres(server)) process.kill(server, 'SIGQUIT');
      for (let looks = 0; server > 0 && isPostgres(server) && looks < 50; looks++) await sleep(100);
    }
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

function readOr(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The number may long be another program's. */
const isPostgres = (pid: number): boolean => readOr(`/proc/${pid}/comm`).trim() === 'postgres';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function run(program: string, args: readonly string[], user: object): void {
  const { status, stderr, error } = spawnSync(program, args, { ...user, cwd: '/', encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
}

await clearLeftovers();
const native = nativeFolder();
if (native === undefined) throw new Error('there is no PostgreSQL for this platform');
const user = serverUser();
const folder = mkdtempSync(join(tmpdir(), prefix));
writeFileSync(join(folder, 'keeper.pid'), String(process.pid));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
chmodSync(folder, 0o755);
const own = (path: string): void => {
  if (user.uid !== undefined && user.gid !== undefined) chownSync(path, user.uid, user.gid);
};
const dataFolder = (name: string): string => {
  const data = join(folder, name);
  mkdirSync(data, { mode: 0o700 });
  own(data);
  return data;
};
const data = dataFolder('data');
writeFileSync(join(folder, 'password'), `${password}\n`);
const bin = join(runnableFolder(native, user, folder), 'bin');
run(
  join(bin, 'initdb'),
  [`--pgdata=${data}`, '--auth=scram-sha-256', '--username=postgres', `--pwfile=${join(folder, 'password')}`].concat([
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
    '--no-instructions',
  ]),
  user,
);
// Nothing survives the run, so nothing has to reach the disk, but where that is what is measured; what is tested are crashes of Fishery, not of PostgreSQL.
const hasty = ['fsync=off', 'full_page_writes=off', 'autovacuum=off'];
const flags = [
  'listen_addresses=127.0.0.1',
  'unix_socket_directories=',
  ...(process.argv.includes('--durable') ? [] : hasty),
];
flags.push('max_connections=200', 'shared_buffers=64MB', 'log_min_messages=warning');
const running = new Set<ChildProcess>();
const end = () => running.forEach((server) => server.kill('SIGINT'));

async function start(folder: string, port: number): Promise<{ url: string; pid: number | undefined }> {
  const settings = flags.flatMap((flag) => ['-c', flag]);
  const server = spawn(join(bin, 'postgres'), ['-D', folder, '-p', String(port), ...settings], {
    ...user,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  running.add(server);
  const ready = Promise.withResolvers<undefined>();
  server.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (/ready to accept (?:read-only )?connections/.test(text)) ready.resolve(undefined);
    process.stderr.write(text);
  });
  server.on('exit', (code) => {
    running.delete(server);
    if (running.size === 0) process.exit(code ?? 1);
  });
  await ready.promise;
  return { url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`, pid: server.pid };
}

process.stdin.on('end', end).resume();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end);
const port = await freePort();
if (process.argv.includes('--standby')) {
  const copy = dataFolder('standby');
  // Nothing was written yet: a copy of the files is where the other begins.
  run('cp', ['-a', `${data}/.`, copy], user);
  const upstream = `host=127.0.0.1 port=${port} user=postgres password=${password}`;
  appendFileSync(join(copy, 'postgresql.auto.conf'), `primary_conninfo = '${upstream}'\n`);
  writeFileSync(join(copy, 'standby.signal'), '');
  own(join(copy, 'standby.signal'));
  const primary = await start(data, port);
  const standby = await start(copy, await freePort());
  process.stdout.write(`${JSON.stringify({ ...primary, standby })}\n`);
} else process.stdout.write(`${JSON.stringify(await start(data, port))}\n`);
