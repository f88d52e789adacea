import { Allowance } from '../answers/allowance.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/** To one mapped port, as many as a listening socket had wait by default for decades (SOMAXCONN). */
const waitingPerMapping_max = 128;
/** Of all rows, so many eighths: outsiders must not have the table. */
const waitingEighths_max = 1;
/** Each is an entry of the flow log, whoever answers it and how. */
const callsPerS_max = 1_000;

/**
 * Connections that somebody outside has begun, as long as the client has not answered: anybody may begin one, so there is a
 * bound to how many there are, to one port and in all, and to how many come in a second.
 */
export class TcpCalls {
  readonly #waits: Uint8Array;
  readonly #ofMapping: Uint16Array;
  readonly #waitingMax: number;
  readonly #allowance = new Allowance(callsPerS_max);
  waiting = 0;

  constructor(flowsMax: number) {
    this.#waits = new Uint8Array(flowsMax);
    this.#ofMapping = new Uint16Array(flowsMax);
    this.#waitingMax = Math.ceil((flowsMax * waitingEighths_max) / 8);
  }

  /** FORWARD if there may be one more to this mapping; or why not. */
  admit(mapping: number, nowMs: number): number {
    const isFull = this.waiting >= this.#waitingMax || this.#ofMapping[mapping]! >= waitingPerMapping_max;
    return isFull || !this.#allowance.spend(nowMs) ? DROP.call_limit : FORWARD;
  }

  begin(flow: number, mapping: number): void {
    this.#waits[flow] = 1;
    this.#ofMapping[mapping] = this.#ofMapping[mapping]! + 1;
    this.waiting++;
  }

  isWaiting(flow: number): boolean {
    return this.#waits[flow] === 1;
  }

  /** The client has answered, or it is over; it may not have been a call at all. */
  settle(flow: number, mapping: number): void {
    if (this.#waits[flow] === 0) return;
    this.#waits[flow] = 0;
    this.#ofMapping[mapping] = this.#ofMapping[mapping]! - 1;
    this.waiting--;
  }
}
