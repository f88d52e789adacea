import type { Figure } from './figures.ts';

/**
 * Measures, and tells each figure as soon as it has it. `settings` are flags for the server under test. What `isWanted` says
 * no to may be left out, by its name.
 */
export type Suite = (
  settings: readonly string[],
  isWanted?: (name: string) => boolean,
) => AsyncGenerator<Figure, void, void>;
