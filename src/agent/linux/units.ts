import { HostProblem } from '../host/host.ts';
import { runTool } from './commands.ts';

const properties = ['Id', 'Names', 'LoadState', 'ActiveState'] as const;

/**
 * Of these systemd units, those that are gone: no unit file is found, and nothing of them runs. A unit that is stopped, or
 * failed, or that waits to be started again, is there.
 */
export async function unitsGone(units: readonly string[]): Promise<ReadonlySet<string>> {
  const args = ['show', `--property=${properties.join(',')}`, '--', ...units];
  const { code, stdout, stderr } = await runTool('systemctl', args);
  if (code !== 0) throw new HostProblem(`systemctl show: ${stderr.trim() || `exit code ${code}`}`);
  return goneIn(stdout, units);
}

/** `systemctl show` has a paragraph for each unit, of lines like `LoadState=not-found`. */
export function goneIn(shown: string, asked: readonly string[]): ReadonlySet<string> {
  const gone = new Set<string>();
  for (const paragraph of shown.split(/\n\s*\n/)) {
    const values = new Map(
      paragraph.split('\n').map((line): [string, string] => {
        const at = line.indexOf('=');
        return [line.slice(0, Math.max(0, at)), line.slice(at + 1).trim()];
      }),
    );
    const names = [values.get('Id') ?? '', ...(values.get('Names') ?? '').split(' ')];
    if (values.get('LoadState') !== 'not-found' || values.get('ActiveState') !== 'inactive') continue;
    for (const unit of asked) if (names.includes(unit)) gone.add(unit);
  }
  return gone;
}
