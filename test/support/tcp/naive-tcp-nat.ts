import type { FlowTimers } from '../../../src/fish/config.ts';
import type { Endpoint } from '../packets.ts';
import { NaiveConnection, type Meaning, type Way } from './naive-connection.ts';
import { has, type Segment } from './segment.ts';

export type NaiveTcpFlow = {
  readonly client: Endpoint;
  readonly remote: Endpoint;
  readonly leased: Endpoint;
  readonly connection: NaiveConnection;
  state: 'live' | 'resting';
  /** Its client has gone on to another leased port: nothing more is for it. */
  isSuperseded: boolean;
  deadlineS: number;
  /** After a reset the tuple rests for longer (RFC 7857 2.2); what is longer than any other rest, whoever has no port else may have. */
  rest: 'short' | 'long' | 'yielding';
};

export type NaiveTcpVerdict =
  | Readonly<{ drop: 'no_flow' | 'not_syn' | 'no_port' | 'resting' }>
  | Readonly<{ flow: NaiveTcpFlow }>
  /** A new flow, from any of these. Tell by `took`. */
  | Readonly<{ choices: readonly Endpoint[] }>;

const isSame = (a: Endpoint, b: Endpoint) => a.address === b.address && a.port === b.port;

/** A NAT of TCP with a port for each connection, which serves as many others as there are other remotes: a list of flows. */
export class NaiveTcpNat {
  readonly #timers: FlowTimers;
  readonly #leased: readonly Endpoint[];
  flows: NaiveTcpFlow[] = [];

  constructor(timers: FlowTimers, leased: readonly Endpoint[]) {
    this.#timers = timers;
    this.#leased = leased;
  }

  /** It is `nowS`, and everything due ends. */
  expire(nowS: number): void {
    for (const flow of this.flows.filter(({ state, deadlineS }) => state === 'live' && deadlineS < nowS))
      this.#rest(flow, nowS, 'short');
    for (const flow of this.flows) {
      if (flow.state === 'live' || flow.rest !== 'long' || flow.deadlineS >= nowS) continue;
      flow.rest = 'yielding';
      flow.deadlineS += this.#timers.tcpResetRestS - this.#timers.tcpRestS;
    }
    this.flows = this.flows.filter(({ state, deadlineS }) => state === 'live' || deadlineS >= nowS);
  }

  out(client: Endpoint, remote: Endpoint, segment: Segment, nowS: number): NaiveTcpVerdict {
    const begins = has(segment, 'S') && !has(segment, 'A');
    const known = this.flows.find(
      (flow) => !flow.isSuperseded && isSame(flow.client, client) && isSame(flow.remote, remote),
    );
    if (known?.state === 'live') {
      this.#follow(known, 'out', segment, nowS);
      return { flow: known };
    }
    // What is sent again after the end still passes; what begins something new is another connection.
    if (known && !begins) return { flow: known };
    if (known) known.isSuperseded = true;
    if (!begins) return { drop: 'not_syn' };
    const free = this.#leased.filter((endpoint) => this.flowAt(endpoint, remote) === undefined);
    const yielding = this.#leased.filter((endpoint) => this.flowAt(endpoint, remote)?.rest === 'yielding');
    const choices = free.length > 0 ? free : yielding;
    return choices.length === 0 ? { drop: 'no_port' } : { choices };
  }

  took(leased: Endpoint, client: Endpoint, remote: Endpoint, syn: Segment, nowS: number): NaiveTcpFlow {
    const deadlineS = nowS + this.#timers.tcpOpeningS;
    const connection = new NaiveConnection(syn);
    const flow: NaiveTcpFlow = {
      client,
      remote,
      leased,
      connection,
      state: 'live',
      isSuperseded: false,
      deadlineS,
      rest: 'short',
    };
    this.flows = this.flows.filter((each) => each !== this.flowAt(leased, remote));
    this.flows.push(flow);
    return flow;
  }

  in(remote: Endpoint, leased: Endpoint, segment: Segment, nowS: number): NaiveTcpVerdict {
    const flow = this.flowAt(leased, remote);
    if (!flow) return { drop: 'no_flow' };
    if (flow.state === 'resting') return has(segment, 'S') || flow.isSuperseded ? { drop: 'resting' } : { flow };
    this.#follow(flow, 'in', segment, nowS);
    return { flow };
  }

  flowAt(leased: Endpoint, remote: Endpoint): NaiveTcpFlow | undefined {
    return this.flows.find((flow) => isSame(flow.leased, leased) && isSame(flow.remote, remote));
  }

  /** A successor knows no more than that a flow rests. */
  restart(): void {
    for (const flow of this.flows) {
      flow.connection.restart();
      flow.rest = 'short';
    }
  }

  #follow(flow: NaiveTcpFlow, way: Way, segment: Segment, nowS: number): void {
    const meaning: Meaning = flow.connection.take(way, segment);
    if (meaning === 'ends') this.#rest(flow, nowS, has(segment, 'R') ? 'long' : 'short');
    else if (meaning === 'keeps') flow.deadlineS = nowS + this.#patienceS(flow);
    else if (meaning === 'doubts') flow.deadlineS = Math.min(flow.deadlineS, nowS + this.#timers.tcpTransitoryS);
  }

  #patienceS({ connection }: NaiveTcpFlow): number {
    const { tcpOpeningS, tcpEstablishedS, tcpTransitoryS } = this.#timers;
    return { opening: tcpOpeningS, established: tcpEstablishedS, closing: tcpTransitoryS }[connection.phase];
  }

  #rest(flow: NaiveTcpFlow, nowS: number, rest: 'short' | 'long'): void {
    flow.state = 'resting';
    flow.rest = rest;
    flow.deadlineS = nowS + this.#timers.tcpRestS;
  }
}
