/** Lease ids as small numbers, for as long as anything names them: a column of numbers is what the flow log can keep. */
export class LeaseNames {
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];
  readonly #uses: number[] = [];
  readonly #free: number[] = [];

  /** How many are named by something. */
  get count(): number {
    return this.#numbers.size;
  }

  /** One more names this lease; its number. */
  hold(name: string): number {
    const number = this.#numbers.get(name) ?? this.#free.pop() ?? this.#names.length;
    this.#numbers.set(name, number);
    this.#names[number] = name;
    this.#uses[number] = (this.#uses[number] ?? 0) + 1;
    return number;
  }

  /** One less does; the last one's number goes to another lease some time. */
  letGo(number: number): void {
    const uses = (this.#uses[number] ?? 0) - 1;
    this.#uses[number] = uses;
    if (uses > 0) return;
    this.#numbers.delete(this.nameOf(number));
    this.#free.push(number);
  }

  nameOf(number: number): string {
    return this.#names[number] ?? '';
  }
}
