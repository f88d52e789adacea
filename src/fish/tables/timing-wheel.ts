/** No flow is due. */
export const NOTHING_DUE = -1;
/** A flow was looked at that is due later. */
export const NOT_YET = -2;

const NOWHERE = -1;

/**
 * Deadlines of flows: a ring of slots, each a doubly linked list in typed arrays, one slot per tick. A deadline that
 * moves away, as that of every busy flow does with every packet, is one store: the flow stays in its slot and moves on
 * when the slot's turn comes. Nothing is due early; what is due is found at most one tick late.
 */
export class TimingWheel {
  readonly #tickMs: number;
  readonly #heads: Int32Array;
  readonly #mask: number;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** The tick in whose slot the flow is, or NOWHERE. */
  readonly #tickOf: Float64Array;
  readonly #deadlineMs: Float64Array;
  /** The first tick that has not been emptied. NOWHERE until the clock is known. */
  #cursor = NOWHERE;

  /**
   * A deadline further away than `spanMs` is all right, its flow is only looked at once more per turn of the wheel.
   * `deadlineMs`: where the deadlines are kept, one for each flow.
   */
  constructor(deadlineMs: Float64Array, tickMs: number, spanMs: number) {
    const capacity = deadlineMs.length;
    this.#tickMs = tickMs;
    const slots = 2 ** Math.ceil(Math.log2(spanMs / tickMs + 2));
    this.#heads = new Int32Array(slots).fill(NOWHERE);
    this.#mask = slots - 1;
    this.#next = new Int32Array(capacity).fill(NOWHERE);
    this.#previous = new Int32Array(capacity).fill(NOWHERE);
    this.#tickOf = new Float64Array(capacity).fill(NOWHERE);
    this.#deadlineMs = deadlineMs;
  }

  /** Sets or moves the flow's deadline. */
  schedule(flow: number, deadlineMs: number, nowMs: number): void {
    this.#deadlineMs[flow] = deadlineMs;
    const tick = this.#tickFor(deadlineMs, nowMs);
    const linkedAt = this.#tickOf[flow]!;
    if (linkedAt !== NOWHERE && linkedAt <= tick) return;
    this.cancel(flow);
    this.#link(flow, tick);
  }

  deadlineOf(flow: number): number {
    return this.#deadlineMs[flow]!;
  }

  cancel(flow: number): void {
    const tick = this.#tickOf[flow]!;
    if (tick === NOWHERE) return;
    const next = this.#next[flow]!;
    const previous = this.#previous[flow]!;
    if (previous === NOWHERE) this.#heads[tick & this.#mask] = next;
    else this.#next[previous] = next;
    if (next !== NOWHERE) this.#previous[next] = previous;
    this.#tickOf[flow] = NOWHERE;
  }

  /**
   * Looks at one flow of the slots whose time has passed: the flow, now without a deadline, if it is due; NOT_YET if it
   * moved on; NOTHING_DUE when all those slots are empty. So a caller that counts its calls has bounded its work.
   */
  step(nowMs: number): number {
    const current = Math.floor(nowMs / this.#tickMs);
    if (this.#cursor === NOWHERE) this.#cursor = current;
    // After a long sleep each slot is visited once, not once per tick slept through.
    this.#cursor = Math.max(this.#cursor, current - this.#heads.length);
    for (; this.#cursor < current; this.#cursor++) {
      const flow = this.#heads[this.#cursor & this.#mask]!;
      if (flow === NOWHERE) continue;
      this.cancel(flow);
      const deadlineMs = this.#deadlineMs[flow]!;
      if (deadlineMs <= nowMs) return flow;
      this.#link(flow, this.#tickFor(deadlineMs, nowMs));
      return NOT_YET;
    }
    return NOTHING_DUE;
  }

  /** The slot's tick is within one turn from the cursor: further away would be a slot that comes up too soon. */
  #tickFor(deadlineMs: number, nowMs: number): number {
    // One tick back, so that what is overdue already, of a flow that was taken over, is found at the next step.
    if (this.#cursor === NOWHERE) this.#cursor = Math.max(0, Math.floor(nowMs / this.#tickMs) - 1);
    const tick = Math.floor(deadlineMs / this.#tickMs);
    return Math.min(Math.max(tick, this.#cursor), this.#cursor + this.#mask);
  }

  #link(flow: number, tick: number): void {
    const slot = tick & this.#mask;
    const first = this.#heads[slot]!;
    this.#next[flow] = first;
    this.#previous[flow] = NOWHERE;
    if (first !== NOWHERE) this.#previous[first] = flow;
    this.#heads[slot] = flow;
    this.#tickOf[flow] = tick;
  }
}
