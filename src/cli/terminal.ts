/** The person at the other end, where there is one. Tests hand in their own. */
export type Terminal = Readonly<{
  /** Somebody can be asked: standard input and standard error are a terminal. */
  isInteractive: boolean;
  /** Standard output is a terminal: what is written there may be redrawn. */
  isScreen: boolean;
  /** Of the screen, in characters. */
  size(): Readonly<{ columns: number; rows: number }>;
  /** Puts a question on standard error and returns the line that is typed; '' at the end of the input. */
  ask(question: string): Promise<string>;
  /** Standard input, for what is piped in. */
  input(): AsyncIterable<Uint8Array>;
  /** Text on standard output as it is, without a newline. Resolves when there is room for more. */
  write(text: string): Promise<void>;
  /** Where SIGINT and SIGTERM are heard. */
  signals: Pick<NodeJS.EventEmitter, 'on' | 'off'>;
}>;

/** The terminal, or the pipes, that this process was started with. */
export function processTerminal({ stdin, stdout, stderr }: typeof process = process): Terminal {
  return {
    isInteractive: stdin.isTTY && stderr.isTTY,
    isScreen: stdout.isTTY,
    size: () => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 }),
    ask: async (question) => {
      // Loaded when somebody is asked: most commands never do.
      const { createInterface } = await import('node:readline/promises');
      const lines = createInterface({ input: stdin, output: stderr });
      try {
        const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
        return await Promise.race([lines.question(question), ended]);
      } finally {
        lines.close();
      }
    },
    input: () => stdin,
    write: (text) =>
      new Promise((resolve) => {
        if (stdout.write(text)) resolve();
        else stdout.once('drain', resolve);
      }),
    signals: process,
  };
}
