import type { Figure } from './figures.ts';

/** Measures, and tells each figure as soon as it has it. `settings` are flags for the server under test. */
export type Suite = (settings: readonly string[]) => AsyncGenerator<Figure, void, void>;
