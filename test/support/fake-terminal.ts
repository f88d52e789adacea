import { EventEmitter } from 'node:events';
import type { Terminal } from '../../src/cli/terminal.ts';

export type FakeTerminal = Terminal &
  Readonly<{ signals: EventEmitter; asked: readonly string[]; written: () => string }>;

/** Nobody at a terminal, unless a test says what they answer or that there is a screen. */
export function fakeTerminal(
  o: Readonly<{
    answers?: readonly string[];
    isScreen?: boolean;
    input?: string;
    columns?: number;
    rows?: number;
  }> = {},
): FakeTerminal {
  const asked: string[] = [];
  let written = '';
  return {
    isInteractive: o.answers !== undefined,
    isScreen: o.isScreen ?? false,
    size: () => ({ columns: o.columns ?? 80, rows: o.rows ?? 24 }),
    ask: async (question) => {
      asked.push(question);
      return o.answers?.[asked.length - 1] ?? '';
    },
    async *input() {
      yield Buffer.from(o.input ?? '');
    },
    write: async (text) => {
      written += text;
    },
    signals: new EventEmitter(),
    asked,
    written: () => written,
  };
}
