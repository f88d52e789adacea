/** What became of one row: `before` is missing for a new one, `after` for one that is gone. */
export type Change<Row> = Readonly<{ before: Row | undefined; after: Row | undefined }>;

/** One step and the way back. Of a row: of which table, and what it was before and after. */
export type Step = Readonly<{ undo: () => void; table?: object; before?: unknown; after?: unknown }>;

/** The steps that were taken, newest last. A command that fails is undone by taking them back. */
export class Journal {
  readonly #steps: Step[] = [];

  get length(): number {
    return this.#steps.length;
  }

  record(step: Step): void {
    this.#steps.push(step);
  }

  since(length: number): readonly Step[] {
    return this.#steps.slice(length);
  }

  rewindTo(length: number): void {
    while (this.#steps.length > length) this.#steps.pop()?.undo();
  }
}

/**
 * The rows of one kind that a batch works on. A row that nobody asked the store for is not "absent", it is unknown: to
 * read it is a bug of the use case that did not ask, and throws.
 */
export class Table<Row, Key extends string | number> {
  readonly #name: string;
  readonly #keyOf: (row: Row) => Key;
  readonly #journal: Journal;
  readonly #onChange: (before: Row | undefined, after: Row | undefined) => void;
  readonly #asked = new Set<Key>();
  readonly #loaded = new Map<Key, Row>();
  readonly #rows = new Map<Key, Row>();
  readonly #touched = new Set<Key>();

  constructor(
    name: string,
    keyOf: (row: Row) => Key,
    journal: Journal,
    onChange: (before: Row | undefined, after: Row | undefined) => void = () => {},
  ) {
    this.#name = name;
    this.#keyOf = keyOf;
    this.#journal = journal;
    this.#onChange = onChange;
  }

  /** Notes that the row is being asked for; false when it was before. */
  ask(key: Key): boolean {
    if (this.#asked.has(key)) return false;
    this.#asked.add(key);
    return true;
  }

  /** Takes a row as the store found it. */
  load(row: Row): void {
    const key = this.#keyOf(row);
    if (this.#loaded.has(key)) return;
    this.#asked.add(key);
    this.#loaded.set(key, row);
    this.#rows.set(key, row);
    this.#onChange(undefined, row);
  }

  get(key: Key): Row | undefined {
    const row = this.#rows.get(key);
    if (row === undefined && !this.#asked.has(key))
      throw new Error(`${this.#name} ${key} was read but never asked for`);
    return row;
  }

  values(): Iterable<Row> {
    return this.#rows.values();
  }

  entries(): Iterable<[Key, Row]> {
    return this.#rows.entries();
  }

  /** Whether the row was made in this batch. */
  isNew(key: Key): boolean {
    return this.#rows.has(key) && !this.#loaded.has(key);
  }

  put(row: Row): void {
    const key = this.#keyOf(row);
    this.#asked.add(key);
    this.#set(key, row);
  }

  remove(key: Key): void {
    this.#set(key, undefined);
  }

  /** One entry per row that is not as the store found it. */
  changes(): readonly Change<Row>[] {
    const changes: Change<Row>[] = [];
    for (const key of this.#touched) {
      const before = this.#loaded.get(key);
      const after = this.#rows.get(key);
      if (before !== after) changes.push({ before, after });
    }
    return changes;
  }

  /** One entry per row that is not as it was when the journal had this length. */
  changesSince(mark: number): readonly Change<Row>[] {
    const changes = new Map<Key, Change<Row>>();
    for (const step of this.#journal.since(mark)) {
      if (step.table !== this) continue;
      // Steps of this table are about rows of this table.
      const { before, after } = step as Change<Row>;
      const row = after ?? before;
      if (row === undefined) continue;
      const key = this.#keyOf(row);
      changes.set(key, { before: changes.has(key) ? changes.get(key)?.before : before, after });
    }
    return [...changes.values()].filter(({ before, after }) => before !== after);
  }

  #set(key: Key, after: Row | undefined): void {
    const before = this.#rows.get(key);
    this.#touched.add(key);
    this.#place(key, before, after);
    this.#journal.record({ undo: () => this.#place(key, after, before), table: this, before, after });
  }

  #place(key: Key, before: Row | undefined, after: Row | undefined): void {
    if (after === undefined) this.#rows.delete(key);
    else this.#rows.set(key, after);
    this.#onChange(before, after);
  }
}
