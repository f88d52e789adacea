import { STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { apiProblem, type ApiProblem } from '../api/problems.ts';
import type { Result } from '../net/result.ts';

/** Of one caller; each carries one request at a time, and whoever waits for a grant needs one for it. */
export const connections_per_caller_max = 128;
/** Of all callers together but the operator, who comes in always. */
export const connections_max = 512;
/** Requests on one connection before the first is answered: hardly a client sends a second, a flood comes by the thousand. */
export const pipelined_max = 4;
/** Whoever broke that is not let in for so long: its connections were cut, and what they had sent cost time already. */
const shut_out_ms = 1_000;
/** Connections that are told why they are turned away; any more are cut without a word. */
const turned_away_max = 64;
/** Whoever was turned away and asks nothing for so long, is not told. */
const turned_away_ms = 1_000;
const callers_shut_out_max = 10_000;

/** Whoever came in: `key` is the same for whoever is the same. */
export type Caller = Readonly<{ key: string; isOperator: boolean }>;

export type DoorParts<C extends Caller> = Readonly<{
  /** Who is at the other end, asked once, when it connects; the error is for people. */
  callerOf(socket: Socket): Result<C, string>;
  now(): number;
}>;

type Seat<C> = { caller: C; unanswered: number };

/**
 * Stands before a server whose socket every process of the host may connect to, and which shares its thread with what
 * must not wait. Whoever is nobody here is turned away before anything of it is read; nobody has more than a bounded share of what
 * is read, under way, and waiting to be read by the caller.
 */
export class Door<C extends Caller> {
  readonly #parts: DoorParts<C>;
  readonly #seats = new Map<Socket, Seat<C>>();
  readonly #counts = new Map<string, number>();
  readonly #shutOut = new Map<string, number>();
  #guests = 0;
  #turnedAway = 0;

  constructor(server: Server, parts: DoorParts<C>) {
    this.#parts = parts;
    // Node begins to parse in its own listener; who is not let in must never get there.
    const letIn = takeListeners(server, 'connection');
    server.on('connection', (socket: Socket) => {
      const problem = this.#admit(socket);
      if (problem) this.#turnAway(socket, problem);
      else for (const listener of letIn) listener.call(server, socket);
    });
    const answer = takeListeners(server, 'request');
    server.on('request', (request, response) => {
      if (this.#begins(request, response)) for (const listener of answer) listener.call(server, request, response);
    });
  }

  /** Undefined where it did not come in by this door, or is gone. */
  callerAt(socket: Socket): C | undefined {
    return this.#seats.get(socket)?.caller;
  }

  get connections(): number {
    return this.#seats.size;
  }

  #admit(socket: Socket): ApiProblem | undefined {
    const found = this.#parts.callerOf(socket);
    if (!found.ok) return apiProblem('unknown_user', found.error);
    const caller = found.value;
    const { key, isOperator } = caller;
    const count = this.#counts.get(key) ?? 0;
    if (!isOperator) {
      if (this.#isShutOut(key)) return busy(`more than ${pipelined_max} requests came at once on a connection`);
      if (count >= connections_per_caller_max)
        return busy(`a caller has at most ${connections_per_caller_max} connections`);
      if (this.#guests >= connections_max) return busy(`there are ${connections_max} connections already`);
      this.#guests++;
    }
    this.#counts.set(key, count + 1);
    this.#seats.set(socket, { caller, unanswered: 0 });
    socket.once('close', () => {
      this.#seats.delete(socket);
      if (!isOperator) this.#guests--;
      const left = (this.#counts.get(key) ?? 1) - 1;
      if (left === 0) this.#counts.delete(key);
      else this.#counts.set(key, left);
    });
    return undefined;
  }

  #isShutOut(key: string): boolean {
    const until = this.#shutOut.get(key);
    if (until === undefined) return false;
    if (until > this.#parts.now()) return true;
    this.#shutOut.delete(key);
    return false;
  }

  /** Written when it has asked something: many a client takes an answer that comes before for a broken connection. */
  #turnAway(socket: Socket, problem: ApiProblem): void {
    socket.on('error', () => {});
    if (this.#turnedAway >= turned_away_max) {
      socket.destroy();
      return;
    }
    this.#turnedAway++;
    const timer = setTimeout(() => socket.destroy(), turned_away_ms);
    socket.once('close', () => {
      clearTimeout(timer);
      this.#turnedAway--;
    });
    socket.once('end', () => socket.destroy());
    socket.once('data', () => {
      socket.pause();
      socket.end(bareAnswer(problem), () => socket.destroy());
    });
  }

  /** Whether the request is to be answered. Nothing more of the connection is read before it is. */
  #begins({ socket }: IncomingMessage, response: ServerResponse): boolean {
    const seat = this.#seats.get(socket);
    // Node goes on with what it had read before the connection was cut.
    if (socket.destroyed) return false;
    if (!seat) return true;
    if (++seat.unanswered > pipelined_max) {
      this.#cutOff(seat.caller, socket);
      return false;
    }
    if (seat.unanswered > 1) socket.pause();
    response.once('close', () => {
      if (--seat.unanswered <= 1 && !socket.destroyed) socket.resume();
    });
    return true;
  }

  #cutOff({ key, isOperator }: C, culprit: Socket): void {
    if (isOperator) {
      culprit.destroy();
      return;
    }
    this.#shutOut.set(key, this.#parts.now() + shut_out_ms);
    const [oldest] = this.#shutOut.keys();
    if (this.#shutOut.size > callers_shut_out_max && oldest !== undefined) this.#shutOut.delete(oldest);
    for (const [socket, { caller }] of this.#seats) if (caller.key === key) socket.destroy();
  }
}

const busy = (why: string): ApiProblem => apiProblem('rate_limited', why, { retryAfterS: 1 });

/** The listeners of an event, which nobody calls any more but who has them. */
function takeListeners(server: Server, event: 'connection' | 'request') {
  const listeners = server.listeners(event);
  server.removeAllListeners(event);
  return listeners;
}

/** To whoever was never a caller, so there is no request that could be named. */
function bareAnswer(problem: ApiProblem): string {
  const { instance: _path, request_id: _id, ...document } = problem.document('', '');
  const body = JSON.stringify(document);
  return (
    `HTTP/1.1 ${document.status} ${STATUS_CODES[document.status] ?? ''}\r\n` +
    'Content-Type: application/problem+json; charset=utf-8\r\n' +
    `Content-Length: ${Buffer.byteLength(body)}\r\n` +
    'Connection: close\r\n\r\n' +
    body
  );
}
