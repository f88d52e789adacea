import { spawn } from 'node:child_process';
import { HostProblem } from '../host/host.ts';

/** Some tools live in sbin, which is not on everybody's path; the locale keeps their messages in one language. */
const environment = { PATH: '/usr/sbin:/sbin:/usr/bin:/bin', LC_ALL: 'C' } as const;
const command_timeout_ms = 10_000;
/** A listing of ten thousand addresses is about a megabyte. */
const output_bytes_max = 64 * 1_048_576;

/** Which packages bring the tools, for whoever lacks one. */
const packages = {
  ip: 'iproute2',
  nft: 'nftables',
  systemctl: 'systemd',
  tc: 'iproute2',
  timeout: 'coreutils',
  unshare: 'util-linux',
} as const;
export type Tool = keyof typeof packages;

export type Output = Readonly<{ code: number; stdout: string; stderr: string }>;

/** Runs a tool and returns whatever it said. The only file of the agent that starts processes. */
export async function runTool(tool: Tool, args: readonly string[], input = ''): Promise<Output> {
  const { promise, resolve, reject } = Promise.withResolvers<Output>();
  const line = `${tool} ${args.join(' ')}`;
  const child = spawn(tool, args, { env: environment, stdio: ['pipe', 'pipe', 'pipe'], timeout: command_timeout_ms });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let bytes = 0;
  const collect = (into: Buffer[]) => (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > output_bytes_max) child.kill('SIGKILL');
    else into.push(chunk);
  };
  child.stdout.on('data', collect(stdout));
  child.stderr.on('data', collect(stderr));
  child.on('error', (cause: NodeJS.ErrnoException) =>
    reject(new HostProblem(cause.code === 'ENOENT' ? notHere(tool) : `${line}: ${cause.message}`, { cause })),
  );
  child.on('close', (code, signal) => {
    if (bytes > output_bytes_max) reject(new HostProblem(`${line}: more than ${output_bytes_max} bytes of output`));
    else if (code === null)
      reject(new HostProblem(`${line}: ended by ${signal ?? 'a signal'} (limit ${command_timeout_ms} ms)`));
    else resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
  });
  // A tool that fails early closes its input; what it had to say about it is in stderr.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return promise;
}

/** As runTool, for a call that must succeed; throws HostProblem with the tool's own words. */
export async function callTool(tool: Tool, args: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await runTool(tool, args, input);
  if (code !== 0) throw new HostProblem(`${tool} ${args.join(' ')}: ${firstLines(stderr) || `exit code ${code}`}`);
  return stdout;
}

/** A line that is longer is not one that anybody waits for. */
const unfinished_chars_max = 65_536;

/**
 * Runs a tool that goes on by itself, and hands over its lines as they come. `ended` says why it ended, in one line for people; null
 * after `stop`, and when all is well.
 */
export function followTool(
  tool: Tool,
  args: readonly string[],
  onLine: (line: string) => void,
): Readonly<{ stop(): void; ended: Promise<string | null> }> {
  const { promise: ended, resolve } = Promise.withResolvers<string | null>();
  const child = spawn(tool, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  let [unfinished, complaint] = ['', ''];
  const tracking = { isStopped: false };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (unfinished + text).split('\n');
    unfinished = (lines.pop() ?? '').slice(0, unfinished_chars_max);
    for (const line of lines) onLine(line);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, unfinished_chars_max);
  });
  child.on('error', (cause: NodeJS.ErrnoException) =>
    resolve(cause.code === 'ENOENT' ? notHere(tool) : `${tool}: ${cause.message}`),
  );
  child.on('close', (code) => {
    const isWell = tracking.isStopped || code === 0;
    resolve(isWell ? null : `${tool} ${args.join(' ')}: ${firstLines(complaint) || `exit code ${code}`}`);
  });
  return {
    stop: () => {
      tracking.isStopped = true;
      child.kill('SIGTERM');
    },
    ended,
  };
}

const notHere = (tool: Tool): string => `${tool} is not on this host: install ${packages[tool]}`;

const words_chars_max = 300;
export const firstLines = (text: string): string =>
  text.trim().split('\n').slice(0, 3).join(' | ').slice(0, words_chars_max);
