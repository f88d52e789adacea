import type { LeaseError } from '../leases/errors.ts';
import type { Result } from '../net/result.ts';
import type { BrokerPosition } from '../wire/broker.ts';
import type { Problem } from '../wire/problems.ts';
import { detailOf, errorKinds, problemType, type ApiErrorCode, type ErrorCode } from './errors.ts';
import { stateOf } from './lease-errors.ts';

export type ProblemPart = Readonly<{ path: string; message: string }>;

type Extras = Readonly<{
  errors?: readonly ProblemPart[];
  retryAfterS?: number;
  headers?: Readonly<Record<string, string>>;
  broker?: BrokerPosition;
}>;

/**
 * An answer that is a problem document. It is thrown, although it is expected, because throwing is how a Fastify hook or
 * handler ends a request early; the error handler is the only place that catches it. The core's own refusals stay values.
 */
export class ApiProblem extends Error {
  readonly code: ErrorCode;
  readonly extras: Extras;

  constructor(code: ErrorCode, detail: string, extras: Extras = {}) {
    super(detail);
    this.code = code;
    this.extras = extras;
  }

  get status(): number {
    return errorKinds[this.code].status;
  }

  /** The document of RFC 9457 for one occurrence. `instance` is the path that was asked for, without its query. */
  document(instance: string, requestId: string): Problem {
    const { status, title } = errorKinds[this.code];
    return {
      type: problemType(this.code),
      title,
      status,
      code: this.code,
      detail: this.message,
      instance,
      request_id: requestId,
      ...(this.extras.retryAfterS === undefined ? {} : { retry_after_s: this.extras.retryAfterS }),
      ...(this.extras.broker === undefined ? {} : { broker: this.extras.broker }),
      ...(this.extras.errors === undefined ? {} : { errors: [...this.extras.errors] }),
    };
  }
}

export const apiProblem = (code: ApiErrorCode, detail: string, extras?: Extras): ApiProblem =>
  new ApiProblem(code, detail, extras);

/** `nowUs` turns "the next ports leave their cooldown at" into seconds to wait, at least one. */
export const leaseProblem = (error: LeaseError, nowUs: number): ApiProblem =>
  new ApiProblem(error.code, detailOf(error), extrasOf(error, nowUs));

function extrasOf(error: LeaseError, nowUs: number): Extras {
  const at = passesAt(error);
  if (at !== null) return { retryAfterS: Math.max(1, Math.ceil((at - nowUs) / 1e6)) };
  if (error.code === 'report_gap')
    return { broker: { broker_epoch: error.epoch, through: error.through, page: error.page } };
  if (error.code === 'replay_over')
    return { errors: error.items.map((item) => ({ path: item.item, message: stateOf(item) })) };
  return {};
}

/** When the refusal may be over, if that is known; microseconds since the epoch. */
function passesAt(error: LeaseError): number | null {
  if (error.code === 'no_ports' || error.code === 'machine_allocates') return error.nextAt;
  return error.code === 'reclaim_too_early' || error.code === 'machine_taken' ? error.at : null;
}

/** The value of a command's result; its error becomes the answer. */
export function valueOf<T>(result: Result<T, LeaseError>, nowUs: number): T {
  if (result.ok) return result.value;
  throw leaseProblem(result.error, nowUs);
}
