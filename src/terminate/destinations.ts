/** How an attempt to reach an origin ended. `unreachable`: the network said so. */
export const outcomes = ['connected', 'refused', 'timed_out', 'unreachable', 'failed'] as const;
export type Outcome = (typeof outcomes)[number];

/** Upper bounds of the classes of connect times, in seconds; what takes longer is in one more class. */
export const connectSeconds = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 3, 10] as const;

/** How long connecting took, by class, and all of it together. */
export type ConnectTimes = Readonly<{ counts: readonly number[]; sum_s: number }>;

export type DestinationReport = Readonly<
  { address: string; port: number; last_problem: string | null; connect_times: ConnectTimes } & Record<Outcome, number>
>;

type Destination = { address: string; port: number; lastProblem: string | null; sum: number } & Record<
  Outcome,
  number
> & { counts: number[] };

/**
 * What became of attempts to connect, by destination: of as many destinations as there is room for, those that were tried last.
 * The sums are of all there ever were.
 */
export class Destinations {
  readonly #most: number;
  /** The one that was tried longest ago is the first. */
  readonly #known = new Map<string, Destination>();
  readonly #all = emptyDestination('', 0);
  forgotten = 0;

  constructor(most: number) {
    this.#most = most;
  }

  note(
    address: string,
    port: number,
    attempt: Readonly<{ outcome: Outcome; seconds: number; problem?: string }>,
  ): void {
    const key = `${address} ${port}`;
    const known = this.#known.get(key) ?? emptyDestination(address, port);
    this.#known.delete(key);
    this.#known.set(key, known);
    for (const each of [known, this.#all]) {
      each[attempt.outcome]++;
      if (attempt.problem !== undefined) each.lastProblem = attempt.problem;
      if (attempt.outcome !== 'connected') continue;
      each.counts[classOf(attempt.seconds)]!++;
      each.sum += attempt.seconds;
    }
    const [oldest] = this.#known.keys();
    if (this.#known.size <= this.#most || oldest === undefined) return;
    this.#known.delete(oldest);
    this.forgotten++;
  }

  get size(): number {
    return this.#known.size;
  }

  /** Of all destinations together. */
  total(): DestinationReport {
    return reportOf(this.#all);
  }

  /** Those with most failures first, then those with most connections. */
  worst(most: number): readonly DestinationReport[] {
    const failures = ({ refused, timed_out, unreachable, failed }: Destination) =>
      refused + timed_out + unreachable + failed;
    return [...this.#known.values()]
      .sort((a, b) => failures(b) - failures(a) || b.connected - a.connected)
      .slice(0, most)
      .map(reportOf);
  }
}

/** The class of the first bound that is not exceeded. */
function classOf(seconds: number): number {
  const found = connectSeconds.findIndex((bound) => seconds <= bound);
  return found < 0 ? connectSeconds.length : found;
}

const emptyDestination = (address: string, port: number): Destination => ({
  ...{ address, port, lastProblem: null, sum: 0 },
  ...{ connected: 0, refused: 0, timed_out: 0, unreachable: 0, failed: 0 },
  counts: new Array<number>(connectSeconds.length + 1).fill(0),
});

const reportOf = ({ lastProblem, sum, counts, ...rest }: Destination): DestinationReport => ({
  ...rest,
  last_problem: lastProblem,
  connect_times: { counts: [...counts], sum_s: sum },
});
