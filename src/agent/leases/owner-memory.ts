import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Logger } from '../../ops/logger.ts';
import { replaceFile } from '../../ops/replace-file.ts';
import { isKnownAlike, isSameOwner } from './ownership.ts';
import type { Owner, ProxyOwner } from '../host/sets.ts';

const fileName = 'owners.json';

const Seen = z.union([
  z.strictObject({ uid: z.int().min(0) }),
  z.strictObject({ cgroup: z.string(), id: z.string().nullable() }),
]);
type Seen = z.infer<typeof Seen>;

/** Who each holder's leases were let in for, the last one last; and of which boot and network namespace that is. */
const Content = z.strictObject({
  version: z.literal(1),
  host: z.string(),
  machine: z.string(),
  holders: z.record(z.string(), z.array(Seen)),
});
type Content = z.infer<typeof Content>;

export type OwnerMemoryParts = Readonly<{
  folder: string;
  machine: string;
  /** Boot and network namespace. */
  host: string;
  log: Pick<Logger, 'warn'>;
}>;

/** By holder, the last one last. */
export type OwnersByHolder = ReadonlyMap<string, readonly ProxyOwner[]>;

/**
 * By whom the proxies of this host are known, or were and may still have something open, on disk for the next agent: the user ids and
 * cgroups of each holder. It is written before the kernel lets anybody in. One too many costs the next agent a look at sockets; of
 * one that is missing, connections would be cut. Of use on the boot that it was written on alone, so nothing is fsynced.
 */
export class OwnerMemory {
  readonly #parts: OwnerMemoryParts;
  readonly #seen: Map<string, ProxyOwner[]>;
  /** What a former agent wrote, and the holders of which are not all looked at yet. */
  #found: OwnersByHolder;
  #isBehind = false;
  #isTroubled = false;

  /** Reads what a former agent of this boot wrote. Never throws. */
  constructor(parts: OwnerMemoryParts) {
    this.#parts = parts;
    this.#found = this.#read();
    this.#seen = new Map([...this.#found].map(([holder, owners]) => [holder, [...owners]]));
  }

  /** By whom this holder was known to a former agent; of no more use once `keepOnly` was called. */
  formerOf(holder: string): readonly ProxyOwner[] {
    return this.#found.get(holder) ?? [];
  }

  /** The kernel is about to let in this one for the holder: on disk with the next `flush`. */
  note(holder: string, owner: Owner): void {
    if (owner.kind !== 'proxy') return;
    const owners = this.#seen.get(holder) ?? [];
    const last = owners.at(-1);
    if (last && isSameOwner(last, owner)) return;
    this.#seen.set(holder, [...owners.filter((each) => !isKnownAlike(each, owner)), owner]);
    this.#isBehind = true;
  }

  /** Nobody else can have anything open any more. */
  keepOnly(present: OwnersByHolder): void {
    this.#found = new Map();
    for (const [holder, owners] of this.#seen) {
      const left = owners.filter((owner) => present.get(holder)?.some((each) => isKnownAlike(each, owner)));
      if (left.length === owners.length) continue;
      this.#isBehind = true;
      if (left.length > 0) this.#seen.set(holder, left);
      else this.#seen.delete(holder);
    }
  }

  /** To be called before the kernel lets anybody in. Never throws: what cannot be written is tried again with the next call. */
  flush(): void {
    if (!this.#isBehind) return;
    const { folder, machine, host, log } = this.#parts;
    const holders = Object.fromEntries([...this.#seen].map(([holder, owners]) => [holder, owners.map(written)]));
    const content: Content = { version: 1, host, machine, holders };
    try {
      replaceFile(folder, fileName, `${JSON.stringify(content)}\n`, false);
      this.#isBehind = false;
      this.#isTroubled = false;
    } catch (error) {
      if (!this.#isTroubled)
        log.warn(
          `by whom holders are known cannot be remembered for a restart (${messageOf(error)}): if one becomes another, ` +
            'what it has open then is cut when the agent starts anew',
        );
      this.#isTroubled = true;
    }
  }

  #read(): OwnersByHolder {
    const { folder, machine, host, log } = this.#parts;
    const path = join(folder, fileName);
    try {
      const content = Content.parse(JSON.parse(readFileSync(path, 'utf8')));
      if (content.host !== host || content.machine !== machine) return new Map();
      return new Map(Object.entries(content.holders).map(([holder, owners]) => [holder, owners.map(ownerOf)]));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn(`${path} is of no use: connections of who a holder was before are not known: ${messageOf(error)}`);
      return new Map();
    }
  }
}

/** The host is bare: nobody has anything on it. Never throws. */
export function forgetOwners(folder: string): void {
  try {
    rmSync(join(folder, fileName), { force: true });
  } catch {
    // It is of no use to an agent that finds nothing of its leases either.
  }
}

const written = (owner: ProxyOwner): Seen =>
  'uid' in owner ? { uid: owner.uid } : { cgroup: owner.cgroup.path, id: owner.cgroup.id };

const ownerOf = (seen: Seen): ProxyOwner =>
  'uid' in seen ? { kind: 'proxy', uid: seen.uid } : { kind: 'proxy', cgroup: { path: seen.cgroup, id: seen.id } };

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 300);
