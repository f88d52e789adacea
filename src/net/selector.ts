import { err, ok, type Result } from './result.ts';
import { plainText } from './text.ts';

/**
 * Which things are meant, by their labels: `country=de,product in (a,b),site!=x,!legacy,tier`. The syntax is that of
 * Kubernetes' label selectors; a value with other characters than letters, digits and `. _ / : @ -` stands in double
 * quotes, in which `\` makes the next character plain.
 */
export type Selector = readonly Requirement[];

/**
 * One condition; all of a selector's must hold. `notin` also holds where the label is missing, as `!=` does. `values` is
 * empty for `exists` and `missing`.
 */
export type Requirement = Readonly<{
  key: string;
  operator: 'in' | 'notin' | 'exists' | 'missing';
  values: readonly string[];
}>;

export const selectorBounds = { characters_max: 1_024, requirements_max: 32, values_max: 64 } as const;

/** Whether a thing with these labels is meant. */
export const matches = (selector: Selector, labels: Readonly<Record<string, string>>): boolean =>
  selector.every(({ key, operator, values }) => {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    switch (operator) {
      case 'exists':
        return value !== undefined;
      case 'missing':
        return value === undefined;
      case 'in':
        return value !== undefined && values.includes(value);
      case 'notin':
        return value === undefined || !values.includes(value);
    }
  });

/**
 * Reads a selector. One that says nothing is an error and not "everything": a variable that was left empty must not
 * select all there is.
 */
export function parseSelector(text: string): Result<Selector, string> {
  if (text.length > selectorBounds.characters_max)
    return err(`a selector has at most ${selectorBounds.characters_max} characters`);
  try {
    return ok(new SelectorReader(text).read());
  } catch (error) {
    if (error instanceof Unreadable) return err(error.message);
    throw error;
  }
}

/** The one way to write a selector: `parseSelector` reads it back as the same. */
export const formatSelector = (selector: Selector): string => selector.map(formatRequirement).join(',');

function formatRequirement({ key, operator, values }: Requirement): string {
  if (operator === 'exists') return key;
  if (operator === 'missing') return `!${key}`;
  const [only = ''] = values;
  if (values.length === 1) return `${key}${operator === 'in' ? '=' : '!='}${formatValue(only)}`;
  return `${key} ${operator} (${values.map(formatValue).join(',')})`;
}

const formatValue = (value: string): string =>
  plainValue.test(value) ? value : `"${value.replaceAll(/["\\]/g, (character) => `\\${character}`)}"`;

const plainValue = /^[A-Za-z0-9._/:@-]+$/;
const labelKey = /^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$/;
const valueLengthMax = 63;

/** Leaves the reader where it is; caught in `parseSelector`, never outside. */
class Unreadable extends Error {}

class SelectorReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): Selector {
    const requirements: Requirement[] = [];
    do {
      if (requirements.length === selectorBounds.requirements_max)
        throw new Unreadable(`a selector has at most ${selectorBounds.requirements_max} conditions`);
      requirements.push(this.#requirement());
    } while (this.#takes(','));
    if (this.#at < this.#text.length) throw this.#expected('a comma or the end');
    return requirements;
  }

  #requirement(): Requirement {
    if (this.#takes('!')) return { key: this.#key(), operator: 'missing', values: [] };
    const key = this.#key();
    if (this.#takes('!=')) return { key, operator: 'notin', values: [this.#value()] };
    if (this.#takes('==') || this.#takes('=')) return { key, operator: 'in', values: [this.#value()] };
    const operator = this.#takesWord('notin') ? 'notin' : this.#takesWord('in') ? 'in' : 'exists';
    return { key, operator, values: operator === 'exists' ? [] : this.#values() };
  }

  #values(): readonly string[] {
    if (!this.#takes('(')) throw this.#expected('an opening parenthesis');
    const values = new Set<string>();
    do {
      if (values.size === selectorBounds.values_max)
        throw new Unreadable(`a condition has at most ${selectorBounds.values_max} values`);
      values.add(this.#value());
    } while (this.#takes(','));
    if (!this.#takes(')')) throw this.#expected('a comma or a closing parenthesis');
    return [...values];
  }

  #key(): string {
    const key = this.#run(/[A-Za-z0-9._/-]*/y);
    if (!labelKey.test(key))
      throw key === '' ? this.#expected('the name of a label') : new Unreadable(`"${key}" is not the name of a label`);
    return key;
  }

  #value(): string {
    const value = this.#takes('"') ? this.#quoted() : this.#run(/[A-Za-z0-9._/:@-]*/y);
    if (value.length > valueLengthMax)
      throw new Unreadable(`the value of a label has at most ${valueLengthMax} characters`);
    return value;
  }

  #quoted(): string {
    // Blanks count inside of quotes: the pattern goes on from the quote itself.
    const pattern = /(?:[^"\\]|\\.)*/suy;
    pattern.lastIndex = this.#at;
    const inside = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += inside.length;
    if (this.#text[this.#at] !== '"') throw this.#expected('a closing quote');
    this.#at++;
    if (!plainText.test(inside)) throw new Unreadable('the value of a label has no control characters');
    return inside.replaceAll(/\\(.)/gsu, '$1');
  }

  /** Takes what the sticky pattern matches here, after blanks; perhaps nothing. */
  #run(pattern: RegExp): string {
    this.#skipBlanks();
    pattern.lastIndex = this.#at;
    const run = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += run.length;
    return run;
  }

  #takes(sign: string): boolean {
    this.#skipBlanks();
    const isHere = this.#text.startsWith(sign, this.#at);
    if (isHere) this.#at += sign.length;
    return isHere;
  }

  /** A word is over where no letter of a name follows: `in(a)` is `in`, `inner` is not. */
  #takesWord(word: string): boolean {
    this.#skipBlanks();
    const end = this.#at + word.length;
    if (!this.#text.startsWith(word, this.#at) || /[A-Za-z0-9._/-]/.test(this.#text[end] ?? '')) return false;
    this.#at = end;
    return true;
  }

  #skipBlanks(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at++;
  }

  #expected(what: string): Unreadable {
    const found = this.#at < this.#text.length ? `"${this.#text.slice(this.#at, this.#at + 16)}"` : 'the end';
    return new Unreadable(`expected ${what} at character ${this.#at + 1}, found ${found}`);
  }
}
