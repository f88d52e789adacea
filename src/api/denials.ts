/** Why a request was turned away at the door, before anything looked at what it asks for. */
export const denialReasons = [
  'no_token',
  'malformed_token',
  'unknown_token',
  'wrong_role',
  'no_certificate',
  'rate_of_token',
  'rate_of_address',
] as const;
export type DenialReason = (typeof denialReasons)[number];

/** How often, since the server started. */
export class Denials {
  readonly #counts = new Map<DenialReason, number>();

  count(reason: DenialReason): void {
    this.#counts.set(reason, this.of(reason) + 1);
  }

  of(reason: DenialReason): number {
    return this.#counts.get(reason) ?? 0;
  }
}
