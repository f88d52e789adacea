import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { addresses } from './lab.ts';
import { finish, Running, type Output } from './processes.ts';
import type { StrangerSaid } from './programs/stranger.ts';

/** What people do in the demo: fetch, many at a time, and try ports that may not be theirs. */

const program = (name: string) => fileURLToPath(new URL(`programs/${name}.ts`, import.meta.url));

export type Origin = Readonly<{ running: Running; bytes: number; sha256: string }>;

export async function startOrigin(folder: string, namespace: string): Promise<Origin> {
  const command = [process.execPath, program('origin')];
  const running = new Running({ name: `${namespace}-server`, namespace, command }, folder);
  const [line] = await running.printed(/^\{"ready".*\}$/m);
  const { bytes, sha256 } = JSON.parse(line) as { bytes: number; sha256: string };
  return { running, bytes, sha256 };
}

/** A request of curl as a person would type it. `from` is how the request says whose it is. */
export type Fetch = Readonly<{
  namespace: string;
  from: string;
  path: string;
  /** Instead of the origin itself: HAProxy's front. */
  at?: string;
  /** Through this HTTP proxy, with CONNECT. */
  proxy?: string;
  limitRate?: string;
  maxTimeS?: number;
}>;

export const urlOf = ({ at = addresses.origin, path, from }: Fetch): string =>
  `http://${at}${path}${path.includes('?') ? '&' : '?'}from=${from};`;

const optionsOf = ({ proxy, limitRate, maxTimeS = 40 }: Fetch): readonly string[] => [
  ...['--silent', '--show-error', '--fail', '--max-time', `${maxTimeS}`],
  ...(proxy === undefined ? [] : ['--proxytunnel', '--proxy', `http://${proxy}`]),
  ...(limitRate === undefined ? [] : ['--limit-rate', limitRate]),
];

export type Fetched = Readonly<{ exitCode: number | null; bytes: number; sha256: string; text: string; error: string }>;

export async function fetchOne(request: Fetch): Promise<Fetched> {
  const { namespace } = request;
  const command = ['curl', ...optionsOf(request), urlOf(request)];
  return fetched(await finish({ name: 'curl', namespace, command }, 60_000));
}

export const fetched = ({ code, stdout, stderr }: Output): Fetched => ({
  exitCode: code,
  bytes: stdout.length,
  sha256: createHash('sha256').update(stdout).digest('hex'),
  text: stdout.length < 1_000 ? stdout.toString() : '',
  error: stderr.trim(),
});

/** So many connections at the same time; each answer in a line of its own. */
export async function fetchMany(request: Fetch, count: number): Promise<Output> {
  const { namespace } = request;
  const parallel = ['--parallel', '--parallel-immediate', '--parallel-max', `${count}`];
  const command = ['curl', ...optionsOf(request), ...parallel, `${urlOf(request)}[1-${count}]`];
  return finish({ name: 'curl', namespace, command });
}

export type Try = Readonly<{
  how: 'udp' | 'late' | 'explicit';
  local: Readonly<{ address: string; port: number }>;
  remote: Readonly<{ address: string; port: number }>;
  uid?: number;
  namespace?: string;
  /** What it calls itself in what it sends. */
  as?: string;
  /** Where the code is for users who may not read the checkout. */
  code?: Readonly<{ node: string; folder: string }>;
}>;

/** Somebody tries a local port; see programs/stranger.ts. */
export async function stranger({ how, local, remote, as = 'stranger', code, ...who }: Try): Promise<StrangerSaid> {
  const ends = [local.address, local.port, remote.address, remote.port].map(String);
  const file = code ? `${code.folder}/demo/programs/stranger.ts` : program('stranger');
  const command = [code?.node ?? process.execPath, file, how, ...ends, as];
  const { stdout, stderr } = await finish({ name: 'stranger', command, ...who });
  if (stdout.length === 0) throw new Error(`the stranger said nothing: ${stderr}`);
  return JSON.parse(stdout.toString()) as StrangerSaid;
}
