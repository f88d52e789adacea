import type { FastifyRequest } from 'fastify';
import type { Command, Denial } from '../leases/commands.ts';
import { limits } from '../leases/limits.ts';
import { remoteAddressOf, targetOf } from './provenance.ts';
import type { ErrorCode } from './errors.ts';

/** Who is turned away for who they are. What is refused to an operator by the core is written down there. */
const deniedCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['unauthenticated', 'forbidden', 'not_yours', 'client_certificate_required'] as const),
]);

type Waiting = Readonly<{ denial: Omit<Denial, 'agoUs'>; at: number }>;
type NoteDenials = (command: Command<'noteDenials'>) => Promise<unknown>;

/**
 * Requests that were turned away, on their way into the audit log. Somebody who keeps knocking must not fill the disk, nor
 * have a transaction for each knock: a bounded number waits for the next writing, and the others are only counted.
 */
export class DenialLog {
  readonly #execute: NoteDenials;
  readonly #nowUs: () => number;
  #waiting: Waiting[] = [];
  #dropped = 0;

  constructor(options: Readonly<{ execute: NoteDenials; nowUs: () => number }>) {
    this.#execute = options.execute;
    this.#nowUs = options.nowUs;
  }

  /** How many were not written down, because too many came or because nothing could be written. */
  get dropped(): number {
    return this.#dropped;
  }

  note(request: FastifyRequest, code: ErrorCode): void {
    const { operation } = request.routeOptions.config;
    if (!deniedCodes.has(code) || operation === undefined) return;
    if (this.#waiting.length === limits.denials_max) {
      this.#dropped++;
      return;
    }
    const { id: requestId, principal } = request;
    const { token = null, name: tokenName = null, role = null } = principal ?? {};
    const said = {
      requestId,
      remoteAddress: remoteAddressOf(request),
      operation: operation.id,
      target: targetOf(request),
      code,
    };
    this.#waiting.push({ denial: { token, tokenName, role, ...said }, at: this.#nowUs() });
  }

  /** Writes down those that wait. What cannot be written is counted as dropped. */
  async flush(): Promise<void> {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    const now = this.#nowUs();
    const denials = waiting.map(({ denial, at }) => ({ ...denial, agoUs: Math.max(0, now - at) }));
    try {
      await this.#execute({ kind: 'noteDenials', denials });
    } catch (error) {
      this.#dropped += denials.length;
      throw error;
    }
  }
}
