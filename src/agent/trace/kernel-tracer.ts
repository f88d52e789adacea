import type { TraceFilter } from '../../fish/log/packet-trace.ts';
import { KernelSteps, type TraceStep } from './kernel-steps.ts';
import { traceTable } from './kernel-table.ts';

/** The kernel, as far as a trace needs it. */
export type KernelTracing = Readonly<{
  /** Puts the table there, instead of any other of its name. Throws HostProblem. */
  load(text: string): Promise<void>;
  /** No table is fine. Throws HostProblem. */
  remove(): void;
  /** Resolves when the kernel's words are heard; they end by themselves after so many seconds. */
  listen(seconds: number, onLine: (line: string) => void): Promise<Listening>;
}>;
/** `ended`: why it ended before `stop`, or null. */
export type Listening = Readonly<{ stop(): void; ended: Promise<string | null> }>;

/** `problem`: why there is nothing, or not all; null when it went well. */
export type KernelSide = Readonly<{ steps: readonly TraceStep[]; problem: string | null }>;
export type KernelTrace = Readonly<{ isFull(): boolean; end(): KernelSide }>;

const lines_max = 100_000;

/** Has the kernel tell what it does with packets. One trace at a time. */
export class KernelTracer {
  readonly #kernel: KernelTracing;
  readonly #nowUs: () => number;
  #isUnderWay = false;
  #end: (() => KernelSide) | null = null;

  /** `nowUs`: microseconds since 1970. */
  constructor(kernel: KernelTracing, nowUs: () => number) {
    this.#kernel = kernel;
    this.#nowUs = nowUs;
  }

  /** undefined: another one is under way. What the kernel refuses is told at the end. */
  async begin(filter: TraceFilter, packets_max: number, seconds: number): Promise<KernelTrace | undefined> {
    if (this.#isUnderWay) return undefined;
    this.#isUnderWay = true;
    const steps = new KernelSteps(packets_max);
    const going: { problem: string | null; listening: Listening | null; isOver: boolean } = {
      problem: null,
      listening: null,
      isOver: false,
    };
    let lines = 0;
    const end = (): KernelSide => {
      if (!going.isOver) {
        going.isOver = true;
        going.listening?.stop();
        try {
          this.#kernel.remove();
        } catch (error) {
          going.problem ??= wordsOf(error);
        }
        this.#end = null;
        this.#isUnderWay = false;
      }
      return { steps: steps.found, problem: going.problem };
    };
    this.#end = end;
    try {
      await this.#kernel.load(traceTable(filter));
      const listening = await this.#kernel.listen(seconds, (line) => {
        if (going.isOver || lines >= lines_max) return;
        lines += 1;
        steps.hear(line, this.#nowUs());
        if (lines === lines_max) going.problem ??= `only the first ${lines_max} lines of the kernel's were heard`;
      });
      going.listening = listening;
      void listening.ended.then((why) => {
        if (!going.isOver) going.problem ??= why;
      });
    } catch (error) {
      going.problem = wordsOf(error);
    }
    // It was ended meanwhile, because the agent stops: nothing that came since stays.
    if (going.isOver) {
      going.listening?.stop();
      this.#kernel.remove();
    }
    return { isFull: () => steps.isFull, end };
  }

  /** Ends what is under way. */
  close(): void {
    this.#end?.();
  }
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
