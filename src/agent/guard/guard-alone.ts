import { setTimeout as sleep } from 'node:timers/promises';
import { err, ok, type Result } from '../../net/result.ts';
import type { Logger } from '../../ops/logger.ts';
import { FirstGuard } from './first-guard.ts';
import { HostProblem } from '../host/host.ts';
import { LinuxHost } from '../linux/linux-host.ts';
import { takeLock } from '../start/lock.ts';
import { preflight } from '../start/preflight.ts';
import { hostSettings, type AgentSettings } from '../settings/settings.ts';
import { StateFile, tablesOf } from '../host/state-file.ts';
import { identityOf } from '../start/take-down.ts';

/** An agent that is at work puts the guard back within a second; one that does not is stuck. */
const agents_turn_ms = 1_500;
const look_every_ms = 50;

/**
 * `fishery agent guard`: the guard, shut, where there is none, without an agent and before the network is up: after a boot, and after
 * a firewall that flushed the ruleset. An agent that is at work has its turn first. One line for people.
 */
export async function guardAlone(
  settings: AgentSettings,
  machine: string,
  log: Pick<Logger, 'warn'>,
): Promise<Result<string, string>> {
  const facts = await preflight({ needsTun: false });
  if (!facts.ok) return facts;
  const hosting = hostSettings(settings);
  const stateFile = StateFile.open(settings.state_dir, { machine, ...identityOf(hosting) });
  if (!stateFile.ok) return stateFile;
  const lock = takeLock('fishery agent guard');
  const host = new LinuxHost({
    ...{ tun: hosting.tun, neighbours: [], sysctls: [], steering: null },
    routeTables: tablesOf(stateFile.value.identity),
  });
  try {
    const until = performance.now() + (lock.ok ? 0 : agents_turn_ms);
    while (!host.guard().stands && performance.now() < until) await sleep(look_every_ms);
    if (host.guard().stands) return ok('the guard stands');
    const first = new FirstGuard({ host, stateFile: stateFile.value, settings: hosting, log });
    return ok(
      (await first.hold())
        ? 'there was no guard: it stands now, shut'
        : `there is nothing to guard: no server has told this host of a pool (${settings.state_dir})`,
    );
  } catch (error) {
    if (error instanceof HostProblem) return err(error.message);
    throw error;
  } finally {
    host.close();
    if (lock.ok) lock.value.release();
  }
}
