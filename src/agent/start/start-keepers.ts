import { accessSync, constants, readFileSync } from 'node:fs';
import { err, ok, type Result } from '../../net/result.ts';
import type { Logger } from '../../ops/logger.ts';
import { makeDirectory } from '../../ops/directory.ts';
import { connectKeeper, shortPatience } from '../../keeper/client.ts';
import { clearPlace, keeperNumbers, keeperPath, runFolder } from '../../keeper/place.ts';
import { keeperPrograms } from '../../keeper/program.ts';
import { kinds, reserved } from '../../keeper/protocol.ts';
import { endSilent, reachKeeper } from '../../keeper/silent.ts';
import { ensureKeeper } from '../../keeper/start.ts';
import type { FishKeeping } from '../fish/fish-place.ts';
import { Keepers, singletons_max } from '../placeholders/keepers.ts';
import type { AgentSettings } from '../settings/settings.ts';

/** Where a native keeper that was built on this host is kept; the state folder is used where this one cannot be. */
const cacheFolder = '/var/cache/fishery';

/**
 * The keepers that are at work on this host: how many placeholders a former agent left in them, and how many descriptors each
 * may open, which need not be as many as this process may; undefined where there is none.
 */
export function keepersFound(): Readonly<{ held: number; keeper_descriptors_max: number | undefined }> {
  let held = 0;
  let descriptors_max: number | undefined;
  for (const number of keeperNumbers()) {
    const connected = connectKeeper(keeperPath(number), shortPatience);
    if (!connected.ok) continue;
    const { hello } = connected.value;
    held += hello.kept[kinds.bound] ?? 0;
    descriptors_max = Math.min(descriptors_max ?? Infinity, hello.descriptors_max + reserved);
    connected.value.close();
  }
  return { held, keeper_descriptors_max: descriptors_max };
}

/** The keepers of this host; `begin` starts the first, but on a host without fish, which has nothing to keep. */
export function keepersOf(
  settings: Pick<AgentSettings, 'keeper' | 'state_dir'>,
  o: Readonly<{ hasFish: boolean; flows_max: number; log: Logger }>,
): Keepers {
  return new Keepers({
    open: (number) => {
      // As the lock does; whoever starts a keeper has taken it.
      makeDirectory(runFolder);
      return ensureKeeper(keeperPath(number), () => programsFor(settings), shortPatience);
    },
    connect: (number) => connectKeeper(keeperPath(number), shortPatience),
    found: () => keeperNumbers(),
    isNeeded: o.hasFish,
    reserved: o.flows_max + singletons_max,
    log: o.log,
    now: () => performance.now(),
    endsAll: endsWithThis(process.pid, nameOf(1)),
  });
}

/** What container engines put in front of a program, to which they leave nothing but that program. */
const shims: readonly string[] = ['docker-init', 'tini', 'dumb-init', 'catatonit'];

/**
 * Whether the kernel ends every process of this PID namespace when this one ends, as in a container that is made for it: it is
 * process 1 itself, or that is a shim, which ends as well.
 */
export const endsWithThis = (pid: number, nameOfFirst: string | undefined): boolean =>
  pid === 1 || shims.includes(nameOfFirst ?? '');

function nameOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Those that fish needs, as it sees them. */
export const fishKeepingOf = (keepers: Keepers): FishKeeping => ({
  flowKeepers: () => keepers.flowShares().map((share) => ({ ...share, path: keeperPath(share.number) })),
  keep: (slot, record, fd) => keepers.keep(slot, record, fd),
  release: (slot) => keepers.release(slot),
  remove: (slot) => keepers.remove(slot),
  takeKept: (slot) => keepers.takeKept(slot),
});

/** The keepers that can be run here, as the settings want them. */
export function programsFor({ keeper, state_dir }: Pick<AgentSettings, 'keeper' | 'state_dir'>) {
  const folder = [cacheFolder, state_dir].find(isUsable);
  if (keeper === 'typescript' || folder === undefined) return keeperPrograms('typescript', state_dir);
  return keeperPrograms(keeper, folder);
}

function isUsable(folder: string): boolean {
  try {
    makeDirectory(folder);
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    // A file system that cannot be written to.
    return false;
  }
}

/**
 * Ends all keepers of this host, with everything that is in them, and removes what dead ones left behind. The lines say
 * what was done; the error is about the first that neither answers nor can be killed.
 */
export async function endKeepers(): Promise<Result<readonly string[], string>> {
  const lines: string[] = [];
  for (const number of keeperNumbers()) {
    const path = keeperPath(number);
    const connected = connectKeeper(path);
    if (connected.ok) {
      const kept = connected.value.hello.kept.reduce((sum, count) => sum + count, 0);
      connected.value.end();
      lines.push(`end keeper ${number} with ${kept} descriptors`);
      continue;
    }
    if (clearPlace(path)) continue;
    const reached = await reachKeeper(path);
    if (reached.is !== 'silent') return err(connected.error);
    const problem = await endSilent(path, reached.socket);
    if (problem !== undefined) return err(problem);
    clearPlace(path);
    lines.push(`kill keeper ${number}, which does not answer`);
  }
  return ok(lines);
}
