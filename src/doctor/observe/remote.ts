import { get as getPlain, type IncomingMessage } from 'node:http';
import { get as getTls } from 'node:https';
import type { AgentStatus } from '../../agent/status/status.ts';
import { FisheryError, type FisheryClient } from '../../sdk/index.ts';
import type { Desired } from '../../wire/agent.ts';
import type { AgentFacts, ServerFacts } from '../facts.ts';

/** What the agent says at its socket, and what the server does. Neither may keep the doctor waiting for long. */
const answer_timeout_ms = 5_000;
const answer_bytes_max = 16 * 1_048_576;

type Answer = Readonly<{ code: number; text: string }>;

async function bodyOf(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const piece of response) {
    text += String(piece);
    if (text.length > answer_bytes_max) throw new Error(`more than ${answer_bytes_max} bytes`);
  }
  return text;
}

function ask(socketPath: string, path: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const signal = AbortSignal.timeout(answer_timeout_ms);
  getPlain({ socketPath, path, signal }, (response) => {
    bodyOf(response).then((text) => resolve({ code: response.statusCode ?? 0, text }), reject);
  }).on('error', reject);
  return promise;
}

export async function readAgent(socket: string): Promise<AgentFacts> {
  try {
    const { code, text } = await ask(socket, '/status');
    if (code !== 200) return { socket, status: null, health: null, problem: `it answered ${code}` };
    const health = await ask(socket, '/healthz');
    return {
      socket,
      status: JSON.parse(text) as AgentStatus,
      health: health.code === 200 ? null : health.text.trim().split('\n').join('; '),
      problem: null,
    };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { socket, status: null, health: null, problem: code === 'ENOENT' ? null : (code ?? message) };
  }
}

/** By how much the server's clock is ahead of ours, by the Date of an answer; null when there is none. */
export function readClockAhead(url: string): Promise<number | null> {
  const { promise, resolve } = Promise.withResolvers<number | null>();
  const sentAt = Date.now();
  // Nothing secret is said here, so any certificate will do.
  const options = { signal: AbortSignal.timeout(answer_timeout_ms), rejectUnauthorized: false };
  const target = new URL('/healthz', url);
  (target.protocol === 'https:' ? getTls : getPlain)(target, options, (response) => {
    response.resume();
    const date = Date.parse(response.headers.date ?? '');
    // The header has whole seconds, cut off; and our own moment is somewhere between the question and the answer.
    resolve(Number.isNaN(date) ? null : (date + 500 - (sentAt + Date.now()) / 2) / 1_000);
  }).on('error', () => resolve(null));
  return promise;
}

export type ServerAnswer = Readonly<{ facts: ServerFacts; desired: Desired | null }>;

/** Asks for what this machine should hold, which nobody is told without the right token. */
export async function readServer(client: FisheryClient | string, url: string, machine: string): Promise<ServerAnswer> {
  const ahead_s = await readClockAhead(url);
  if (typeof client === 'string')
    return { facts: { url, problem: { status: null, text: client }, ahead_s }, desired: null };
  try {
    const desired = await client.agent.desired(machine, { timeoutMs: answer_timeout_ms });
    return { facts: { url, problem: null, ahead_s }, desired };
  } catch (error) {
    if (!(error instanceof FisheryError)) throw error;
    return { facts: { url, problem: { status: error.status, text: error.message }, ahead_s }, desired: null };
  }
}
