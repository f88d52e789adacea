/** Where a command comes from, as far as that matters to what is said and written about it. */
export type Provenance = Readonly<{
  /** The request's, by which it is found again in answers, logs and problem documents. */
  requestId: string;
}>;
