import { err, ok, type Result } from '../../net/result.ts';
import { desiredHost, type HostSettings } from '../host/desired-host.ts';
import { forgetDesired } from '../server/desired-memory.ts';
import { describeStep, nothingRecorded, type Recorded } from '../host/host-state.ts';
import type { HostStep } from '../host/host.ts';
import { removeTraceTable } from '../linux/kernel-tracing.ts';
import { LinuxHost } from '../linux/linux-host.ts';
import { forgetHorizon } from '../guard/horizon-memory.ts';
import { forgetOwners } from '../leases/owner-memory.ts';
import { carries } from '../placeholders/left-on-host.ts';
import { takeLock } from './lock.ts';
import { planDown } from '../host/plan.ts';
import { preflight } from './preflight.ts';
import { endKeepers } from './start-keepers.ts';
import { endTerminator } from './start-terminator.ts';
import { removeLeftSocket } from '../status/status-server.ts';
import { StateFile, tablesOf, type StateIdentity } from '../host/state-file.ts';
import { leftAsSet } from '../host/sysctl-records.ts';

/**
 * `fishery agent down`: puts the host back as it was before the agent came, also after the agent was killed. Returns the
 * lines of what was done; the error is one line for people.
 */
export async function takeDown(stateDir: string, settings: HostSettings): Promise<Result<readonly string[], string>> {
  const facts = await preflight({ needsTun: false });
  if (!facts.ok) return facts;
  const lock = takeLock('fishery agent down');
  if (!lock.ok) return lock;
  try {
    const found = StateFile.find(stateDir);
    if (!found.ok) return err(found.error);
    const recorded: Recorded = found.value?.recorded ?? nothingRecorded;
    const host = new LinuxHost({
      // As the host was set up, whatever the settings say by now.
      tun: found.value?.identity.tun ?? settings.tun,
      neighbours: [],
      routeTables: tablesOf(found.value?.identity ?? identityOf(settings)),
      sysctls: [...recorded.sysctls.keys()],
      // What was attached goes with the keeper, or went with the agent.
      steering: null,
    });
    try {
      const carried = found.value === undefined ? carries(await host.observe('all')) : [];
      if (carried.length > 0) return err(unknownBefore(stateDir, carried));
      // First: they have the TUN device, which cannot be removed while somebody has it.
      const ended = await endKeepers();
      if (!ended.ok) return ended;
      const terminated = await endTerminator();
      // Of an agent that died during a trace.
      removeTraceTable();
      const observed = await host.observe('all');
      const steps = planDown(observed, recorded);
      await host.carryOut(steps.filter((step): step is HostStep => !('part' in step)));
      forgetDesired(stateDir);
      forgetOwners(stateDir);
      forgetHorizon(stateDir);
      found.value?.remove();
      StateFile.forgetFormerBoots(stateDir);
      await removeLeftSocket(stateDir);
      const done = steps.filter((step) => !('part' in step)).map(describeStep);
      return ok([...ended.value, ...terminated, ...done, ...leftAsSet(observed, recorded)]);
    } finally {
      host.close();
    }
  } finally {
    lock.value.release();
  }
}

/** To take away what is here without giving back what was here before would cut this host off. */
const unknownBefore = (stateDir: string, carried: readonly string[]): string =>
  `this host carries what an agent put there (${carried.join(', ')}), and ${stateDir} has no record of how it was before; ` +
  'nothing was changed. Name the folder or the settings that the agent was started with: --state-dir FOLDER, or ' +
  '--config FILE. If that record is lost, start the agent with its settings, until its guard is open: it takes over what ' +
  'is here, and "fishery agent down" can put the host back';

/** What of the settings is written down on the host. */
export const identityOf = (settings: HostSettings): Omit<StateIdentity, 'machine'> => {
  const { tun, routeTable, mark, markMask, terminate } = settings;
  return { tun, routeTable, mark, markMask, terminateTable: terminate?.routeTable ?? null };
};

/** Every sysctl that the agent looks at with these settings, restored ones included. */
export function sysctlsOf(settings: HostSettings, recorded: Recorded): readonly string[] {
  const none = { prefixes: [], addresses: [], hostAddresses: [] };
  const load = { families: [4, 6] as const, ...none, classes: [], elements: new Map() };
  const wishes = desiredHost({ ...settings, fish: settings.fish }, load, nothingRecorded).sysctls;
  const read = wishes.flatMap((wish) => [wish.key, ...(wish.reads ?? [])]);
  return [...new Set([...read, ...recorded.sysctls.keys()])];
}
