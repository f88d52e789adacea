/** A value as both databases store it. */
export type Value = string | number | null;
export type Parameters = Readonly<Record<string, Value>>;
export type AnyRow = Readonly<Record<string, Value>>;

/** SQL that both databases understand, with parameters by name (`@slice`). Each store puts them as its database wants. */
export type Statement = Readonly<{ sql: string; parameters: Parameters }>;

/**
 * Reading in several steps, where the next may depend on what the last one found. SQLite takes all steps before anything
 * else can run; PostgreSQL takes them in one snapshot. So each read sees one state of the table, however it is stored.
 */
export type Read<T> = Generator<Statement, T, readonly AnyRow[]>;

// What a table holds was written from the domain's own types, so its rows are what the statement's author says they are.
export function* all<Row>(sql: string, parameters: Parameters = {}): Read<readonly Row[]> {
  return (yield { sql, parameters }) as readonly Row[];
}

export function* one<Row>(sql: string, parameters: Parameters = {}): Read<Row | undefined> {
  return (yield* all<Row>(sql, parameters))[0];
}

export const map = <A, B>(value: A | undefined, to: (value: A) => B): B | undefined =>
  value === undefined ? undefined : to(value);
