import type { Logger } from '../../ops/logger.ts';
import { tableName } from '../ruleset.ts';
import { doze, isOver } from '../waiting.ts';
import { listenTo, type Tool } from './commands.ts';

/** What ends the guard or the reach of the local table at once; everything else can wait for the next look. */
const watched: readonly Readonly<{ tool: Tool; args: readonly string[]; isBad: RegExp }>[] = [
  // What a firewall manager does when it starts anew: "flush ruleset".
  { tool: 'nft', args: ['monitor', 'destroy', 'tables'], isBad: new RegExp(`^delete table inet ${tableName}$`) },
  { tool: 'ip', args: ['-4', 'monitor', 'rule'], isBad: /^Deleted .*lookup local/ },
  { tool: 'ip', args: ['-6', 'monitor', 'rule'], isBad: /^Deleted .*lookup local/ },
];
const restart_ms = 5_000;

/**
 * Calls `onBad` as soon as the kernel reports that the table or a rule to the local table was deleted, until `signal`
 * aborts. The agent looks at its host every few seconds anyway; this is so that the host need not wait for that.
 */
export async function watchForMeddling(
  onBad: () => void,
  log: Pick<Logger, 'warn'>,
  signal: AbortSignal,
): Promise<void> {
  const watch = async ({ tool, args, isBad }: (typeof watched)[number]): Promise<void> => {
    while (!isOver(signal)) {
      const hear = (line: string) => {
        if (!isBad.test(line)) return;
        log.warn({ event: line }, 'something was deleted: looking at the host now');
        onBad();
      };
      await listenTo(tool, args, hear, signal);
      await doze(restart_ms, signal);
    }
  };
  await Promise.all(watched.map(watch));
}
