import { pino, type DestinationStream, type Logger } from 'pino';
import { z } from 'zod';

export type { Logger } from 'pino';

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Spread into the settings of a command that logs. */
export const logSettings = {
  log_level: z.enum(logLevels).default('info').meta({ description: 'Least severe messages that are written' }),
};

const secretNames = ['authorization', 'token', 'secret', 'password', 'cookie'];
/** pino knows no "at any depth"; three levels reach `req.headers.authorization` and everything that is logged here. */
const secretPaths = ['', '*.', '*.*.'].flatMap((prefix) => secretNames.map((name) => prefix + name));

/**
 * JSON lines on standard output (or `destination`), instants as RFC 3339, levels as words, and nothing in them that
 * lets a reader of the log act as somebody else.
 */
export function createLogger(
  options: Readonly<{ level: LogLevel; name?: string }>,
  destination?: DestinationStream,
): Logger {
  return pino(
    {
      level: options.level,
      // No process id and host name on each line: the journal and every log shipper add them anyway.
      base: options.name === undefined ? {} : { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretPaths, censor: '(hidden)' },
    },
    // Synchronous, so that the last lines before an exit are not lost.
    destination ?? pino.destination({ dest: 1, sync: true }),
  );
}
