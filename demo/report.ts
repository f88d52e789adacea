/** One claim, and what was seen of it. */
export type Fact = Readonly<{
  id: string;
  claim: string;
  held: boolean;
  expected: unknown;
  seen: unknown;
  evidence: readonly string[];
}>;

export type StepResult = Readonly<{
  number: number;
  title: string;
  held: boolean;
  seconds: number;
  facts: readonly Fact[];
  notes: readonly string[];
}>;

type Details = Readonly<{ expected: unknown; seen: unknown; evidence?: readonly string[] }>;

/** What one step of the demo found, told as it finds it. */
export class Step {
  readonly number: number;
  readonly title: string;
  readonly #facts: Fact[] = [];
  readonly #notes: string[] = [];
  readonly #startedAt = performance.now();
  readonly #print: (line: string) => void;

  constructor(number: number, title: string, print: (line: string) => void) {
    this.number = number;
    this.title = title;
    this.#print = print;
    print(`\n${number}. ${title}`);
  }

  /** A claim that was looked into: true or not, with what shows it. */
  fact(id: string, claim: string, held: boolean, { expected, seen, evidence = [] }: Details): void {
    this.#facts.push({ id, claim, held, expected, seen, evidence });
    this.#print(`   ${held ? 'ok  ' : 'FAIL'} ${claim}`);
    if (!held) {
      this.#print(`          expected: ${shown(expected)}`);
      this.#print(`          seen:     ${shown(seen)}`);
    }
    for (const line of evidence) this.#print(`          ${line}`);
  }

  /** A claim that is true when two values are equal. */
  equal(id: string, claim: string, seen: unknown, expected: unknown, evidence?: readonly string[]): void {
    const held = JSON.stringify(seen) === JSON.stringify(expected);
    this.fact(id, claim, held, { expected, seen, ...(evidence ? { evidence } : {}) });
  }

  /** Something worth knowing that is no claim. */
  note(line: string): void {
    this.#notes.push(line);
    this.#print(`        ${line}`);
  }

  /** Something went wrong that the step had not expected at all. */
  failed(thrown: unknown): void {
    const seen = thrown instanceof Error ? thrown.message : String(thrown);
    this.fact('completed', 'the step could be carried out', false, { expected: 'no error', seen });
  }

  result(): StepResult {
    return {
      number: this.number,
      title: this.title,
      held: this.#facts.length > 0 && this.#facts.every(({ held }) => held),
      seconds: Math.round((performance.now() - this.#startedAt) / 100) / 10,
      facts: this.#facts,
      notes: this.#notes,
    };
  }
}

const shown = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** At most so many lines, and how many are left out. */
export const some = (lines: readonly string[], max = 6): readonly string[] =>
  lines.length <= max ? lines : [...lines.slice(0, max), `… and ${lines.length - max} more`];
