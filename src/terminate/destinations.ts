/** How an attempt to reach an origin ended. `unreachable`: the network said so. */
export const outcomes = ['connected', 'refused', 'timed_out', 'unreachable', 'failed'] as const;
export type Outcome = (typeof outcomes)[number];

/** Upper bounds of the classes of connect times, in seconds; what takes longer is in one more class. */
export const connectSeconds = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 3, 10] as const;

/** How long connecting took: by class, all of it together, and the longest. */
export type ConnectTimes = Readonly<{ counts: readonly number[]; sum_s: number; max_s: number }>;

/** Instants are RFC 3339 UTC; null for never. */
export type DestinationReport = Readonly<
  {
    address: string;
    port: number;
    last_connected_at: string | null;
    last_problem: string | null;
    last_problem_at: string | null;
    connect_times: ConnectTimes;
  } & Record<Outcome, number>
>;

/** Which come first: those where most attempts failed, those with most attempts, or those that take longest on average. */
export const destinationOrders = ['failures', 'attempts', 'connect_time'] as const;
export type DestinationOrder = (typeof destinationOrders)[number];
/** What is left out matches anything. */
export type DestinationFilter = Readonly<{ address?: string; port?: number }>;
export type DestinationList = Readonly<{ destinations: readonly DestinationReport[]; truncated: boolean }>;

type Destination = {
  address: string;
  port: number;
  connectedAt: number | null;
  problem: string | null;
  problemAt: number | null;
  counts: number[];
  sum: number;
  max: number;
} & Record<Outcome, number>;

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

  /** `at`: when the attempt was over, milliseconds since 1970. */
  note(
    address: string,
    port: number,
    attempt: Readonly<{ outcome: Outcome; seconds: number; at: number; problem?: string }>,
  ): void {
    const key = `${address} ${port}`;
    const known = this.#known.get(key) ?? emptyDestination(address, port);
    this.#known.delete(key);
    this.#known.set(key, known);
    for (const each of [known, this.#all]) {
      each[attempt.outcome]++;
      if (attempt.outcome !== 'connected') {
        each.problem = attempt.problem ?? attempt.outcome;
        each.problemAt = attempt.at;
        continue;
      }
      each.connectedAt = attempt.at;
      each.counts[classOf(attempt.seconds)]!++;
      each.sum += attempt.seconds;
      each.max = Math.max(each.max, attempt.seconds);
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

  /** Up to `most` of them; among equals those with most attempts first. */
  list(by: DestinationOrder, { address, port }: DestinationFilter, most: number): DestinationList {
    const found = [...this.#known.values()].filter(
      (each) => (address === undefined || address === each.address) && (port === undefined || port === each.port),
    );
    const weight = weights[by];
    const sorted = found.sort((a, b) => weight(b) - weight(a) || weights.attempts(b) - weights.attempts(a));
    return { destinations: sorted.slice(0, most).map(reportOf), truncated: found.length > most };
  }
}

const failuresOf = ({ refused, timed_out, unreachable, failed }: Destination): number =>
  refused + timed_out + unreachable + failed;
const weights: Readonly<Record<DestinationOrder, (each: Destination) => number>> = {
  failures: failuresOf,
  attempts: (each) => each.connected + failuresOf(each),
  connect_time: ({ sum, connected }) => (connected === 0 ? 0 : sum / connected),
};

/** The class of the first bound that is not exceeded. */
function classOf(seconds: number): number {
  const found = connectSeconds.findIndex((bound) => seconds <= bound);
  return found < 0 ? connectSeconds.length : found;
}

const emptyDestination = (address: string, port: number): Destination => ({
  ...{ address, port, connectedAt: null, problem: null, problemAt: null, sum: 0, max: 0 },
  ...{ connected: 0, refused: 0, timed_out: 0, unreachable: 0, failed: 0 },
  counts: new Array<number>(connectSeconds.length + 1).fill(0),
});

const reportOf = ({ connectedAt, problem, problemAt, sum, max, counts, ...rest }: Destination): DestinationReport => ({
  ...rest,
  last_connected_at: instantOf(connectedAt),
  last_problem: problem,
  last_problem_at: instantOf(problemAt),
  connect_times: { counts: [...counts], sum_s: sum, max_s: max },
});
const instantOf = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
