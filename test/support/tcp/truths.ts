import type { FlowTimers } from '../../../src/fish/config.ts';
import type { EndState } from './host-end.ts';
import { has, type Segment } from './segment.ts';
import type { Way } from './naive-connection.ts';

type Truth = {
  /** (leased, remote) by which it goes. */
  tuple: string | undefined;
  /** When a segment of it last went by. */
  heardS: number;
  hasHandshake: boolean;
  /** When a RST went by that one of its ends has sent; one of these two hosts, by this tuple. */
  resetS: number | undefined;
  refusedS: number | undefined;
  isDoubted: boolean;
  isLost: boolean;
  fins: Set<Way>;
  finishedS: number | undefined;
};

/**
 * What is true of connections, by who really sent what: no sequence number is looked at. It says less than the naive NAT
 * does, but nobody's idea of how to follow TCP is in it.
 */
export class Truths {
  readonly #timers: FlowTimers;
  readonly #connections: Truth[] = [];

  constructor(timers: FlowTimers) {
    this.#timers = timers;
  }

  /** A connection that nobody has heard of yet; its number. */
  begin(): number {
    this.#connections.push({
      tuple: undefined,
      heardS: -Infinity,
      hasHandshake: false,
      resetS: undefined,
      refusedS: undefined,
      isDoubted: false,
      isLost: false,
      fins: new Set(),
      finishedS: undefined,
    });
    return this.#connections.length - 1;
  }

  /** Its SYN went by, with this tuple. */
  called(connection: number | null, tuple: string): void {
    if (connection === null) return;
    this.#connections[connection]!.tuple = tuple;
    // The SYN of an attempt that its client has given up overtakes: which of the two the client means, only the client knows.
    for (const later of this.#connections.slice(connection + 1)) if (later.tuple === tuple) later.isDoubted = true;
  }

  /** Of what was beginning, the successor has not all that its predecessor saw. */
  restart(): void {
    for (const truth of this.#connections) truth.isDoubted ||= !truth.hasHandshake;
  }

  tupleOf(connection: number | null): string | undefined {
    return connection === null ? undefined : this.#connections[connection]!.tuple;
  }

  /** The last connection that went by this tuple. */
  lastOn(tuple: string): number | undefined {
    const last = this.#connections.findLastIndex((each) => each.tuple === tuple);
    return last < 0 ? undefined : last;
  }

  /** A RST in window, of whoever: what it says may be true, so fish waits for less long. */
  doubt(tuple: string): void {
    const last = this.lastOn(tuple);
    if (last !== undefined) this.#connections[last]!.isDoubted = true;
  }

  passed(connection: number | null, way: Way, segment: Segment, nowS: number): void {
    if (connection === null) return;
    const truth = this.#connections[connection]!;
    if (has(segment, 'R')) {
      truth.resetS ??= nowS;
      // A host that has begun another connection refuses what is still said to it of the one before.
      for (const each of this.#connections)
        if (each === truth || (each.tuple !== undefined && each.tuple === truth.tuple)) each.refusedS ??= nowS;
      return;
    }
    // Silence that lasted longer than fish waits has ended it; what is said afterwards does not bring it back.
    if (nowS - truth.heardS > this.#patienceS(truth)) truth.isLost ||= truth.heardS !== -Infinity;
    truth.heardS = nowS;
    if (has(segment, 'F')) truth.fins.add(way);
    if (truth.fins.size === 2) truth.finishedS ??= nowS;
    if (way === 'out' && !has(segment, 'S')) truth.hasHandshake = true;
  }

  /** Whether fish has to know this connection, between two ends that are really connected, as alive. */
  mustLive(connection: number, client: EndState, server: EndState, nowS: number): boolean {
    const truth = this.#connections[connection]!;
    const goesOn = (state: EndState) => ['established', 'fin-wait-1', 'fin-wait-2', 'close-wait'].includes(state);
    const isOpen = goesOn(client) && goesOn(server) && truth.resetS === undefined && !truth.isLost;
    return isOpen && nowS - truth.heardS < this.#patienceS(truth);
  }

  /** Whether somebody else may have its port, though one of its ends still believes in it. */
  mayBeTaken(connection: number, nowS: number): boolean {
    const truth = this.#connections[connection]!;
    const { tcpRestS } = this.#timers;
    const hasRested = nowS - (truth.refusedS ?? Infinity) >= tcpRestS;
    const hasFinished = nowS - (truth.finishedS ?? Infinity) >= tcpRestS;
    return truth.isLost || hasRested || hasFinished || nowS - truth.heardS >= this.#patienceS(truth) + tcpRestS;
  }

  #patienceS({ hasHandshake, isDoubted, fins }: Truth): number {
    const { tcpEstablishedS, tcpOpeningS, tcpTransitoryS } = this.#timers;
    if (fins.size === 2 || isDoubted) return tcpTransitoryS;
    return hasHandshake ? tcpEstablishedS : tcpOpeningS;
  }
}
