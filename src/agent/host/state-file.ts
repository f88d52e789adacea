import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Address } from '../../net/address.ts';
import { parsePrefix, type Prefix } from '../../net/prefix.ts';
import { err, ok, type Result } from '../../net/result.ts';
import { replaceFile } from '../../ops/replace-file.ts';
import { nothingRecorded, type Recorded, type RecordPart } from './host-state.ts';
import { bootOf, thisHost } from '../start/this-host.ts';

const fileName = 'agent.json';

/** Layouts that can be read; the last is the one that is written. What an earlier one did not have yet may be absent. */
const layouts = [1, 2, 3, 4] as const;

const Content = z.strictObject({
  version: z.literal(layouts),
  /** Boot and network namespace that the record is about: after a reboot the host has nothing of the agent's any more. */
  host: z.string(),
  machine: z.string(),
  tun: z.string(),
  route_table: z.int(),
  mark: z.int().optional(),
  mark_mask: z.int().optional(),
  terminate_table: z.int().nullable().default(null),
  recorded: z.strictObject({
    sysctls: z.record(z.string(), z.string()),
    written: z.record(z.string(), z.string()).default({}),
    addresses: z.array(z.string()),
    tun: z.string().nullable(),
    tun_before: z.strictObject({ name: z.string(), is_up: z.boolean(), queue: z.int() }).nullable().default(null),
    rules: z.array(z.string()),
  }),
  sliced: z.array(z.string()).default([]),
  prefixes: z.array(z.string()).default([]),
});
type Content = z.infer<typeof Content>;

/** What is the guard's business on every boot: see `prefixes` and `sliced`. */
type Guarded = Readonly<{ prefixes: readonly Prefix[]; sliced: ReadonlySet<Address> }>;

/** More addresses than any machine has slices of; the oldest would go first. */
const sliced_max = 65_536;

/** Of any layout. */
const Versioned = z.looseObject({ version: z.int() });

/**
 * The settings that `down` has to know, or that must not change under a host that carries the old ones. The sockets in the
 * keepers have the mark that they were opened with: replies to flows that go on would not be steered by another one.
 */
export type StateIdentity = Readonly<{
  machine: string;
  tun: string;
  routeTable: number;
  mark: number;
  markMask: number;
  /** The terminator's routing table; null where there never was one. */
  terminateTable: number | null;
}>;

/** Every routing table that is the agent's. */
export const tablesOf = ({ routeTable, terminateTable }: Omit<StateIdentity, 'machine'>): readonly number[] =>
  terminateTable === null ? [routeTable] : [routeTable, terminateTable];

/** By the names that settings have; what is said about them is said in these words. */
const identityKeys = {
  machine: 'machine',
  tun: 'tun',
  routeTable: 'route_table',
  mark: 'mark',
  markMask: 'mark_mask',
  terminateTable: 'terminate.route_table',
} as const satisfies Readonly<Record<keyof StateIdentity, string>>;

/**
 * What the agent found before it changed it, on disk before the change: written whole to a second file, fsynced, renamed,
 * and the folder fsynced. So `fishery agent down` can restore the host whatever the agent died of.
 */
export class StateFile {
  readonly identity: StateIdentity;
  readonly #folder: string;
  readonly #host: string;
  #recorded: Recorded;
  #guarded: Guarded;
  #isBegun: boolean;

  private constructor(
    folder: string,
    host: string,
    identity: StateIdentity,
    { recorded, guarded, isBegun }: Readonly<{ recorded: Recorded; guarded: Guarded; isBegun: boolean }>,
  ) {
    this.#folder = folder;
    this.#host = host;
    this.identity = identity;
    this.#recorded = recorded;
    this.#guarded = guarded;
    this.#isBegun = isBegun;
  }

  /**
   * Reads the record of this host, or begins one. A record from before a reboot, or of another network namespace, is
   * about a host that is no more; but for what is to be guarded on any. The error is one line for people.
   */
  static open(folder: string, identity: StateIdentity, host: string = thisHost()): Result<StateFile, string> {
    const read = readContent(folder);
    if (!read.ok) return read;
    const guarded = guardedOf(read.value);
    const content = read.value?.host === host ? read.value : undefined;
    if (!content)
      return ok(new StateFile(folder, host, identity, { recorded: nothingRecorded, guarded, isBegun: false }));
    // What the agent that wrote it did not write down yet is taken to be as the settings say.
    const had = { ...identity, ...identityOf(content) };
    // A host may get a terminator, or lose it: then its table is still to be looked at.
    const wanted = { ...identity, terminateTable: identity.terminateTable ?? had.terminateTable };
    const isNew = had.terminateTable === null && wanted.terminateTable !== null;
    if (isNew) had.terminateTable = wanted.terminateTable;
    for (const key of ['machine', 'tun', 'routeTable', 'mark', 'markMask', 'terminateTable'] as const)
      if (had[key] !== wanted[key])
        return err(
          `this host is set up for ${identityKeys[key]} "${asWritten(key, had[key])}", the settings say "${asWritten(key, wanted[key])}": ` +
            'run "fishery agent down" with the old settings first',
        );
    const file = new StateFile(folder, host, wanted, { recorded: recordedOf(content), guarded, isBegun: true });
    if (isNew) file.#write(file.recorded);
    return ok(file);
  }

  /** What a boot before this one has left: nothing of it is on the host, and `down` forgets what else it says. */
  static forgetFormerBoots(folder: string, host: string = thisHost()): void {
    const read = readContent(folder);
    if (read.ok && read.value && bootOf(read.value.host) !== bootOf(host)) removeFile(folder);
  }

  /** The record of this host as it is, for `down`; undefined when there is none. */
  static find(folder: string, host: string = thisHost()): Result<StateFile | undefined, string> {
    const read = readContent(folder);
    if (!read.ok) return read;
    const content = read.value;
    if (content?.host !== host) return ok(undefined);
    const identity = { mark: 0, markMask: 0, ...identityOf(content) };
    const guarded = guardedOf(content);
    return ok(new StateFile(folder, host, identity, { recorded: recordedOf(content), guarded, isBegun: true }));
  }

  get recorded(): Recorded {
    return this.#recorded;
  }

  /**
   * Every address that this host has had a slice of, on whatever boot, until it is taken down: the server may have given it to
   * another machine since.
   */
  get sliced(): ReadonlySet<Address> {
    return this.#guarded.sliced;
  }

  /** Of the pools, as the server said last, on whatever boot: what the guard has to know before anybody can be asked. */
  get prefixes(): readonly Prefix[] {
    return this.#guarded.prefixes;
  }

  /** Whether it is on disk. While it is not, this agent has changed nothing; what is on the host was left by another. */
  get isBegun(): boolean {
    return this.#isBegun;
  }

  /** Also with an empty part on disk: a host without a record is one that carries nothing of an agent's. */
  record(part: RecordPart): void {
    const { sysctls, written, addresses, tun, tunBefore, rules } = this.#recorded;
    this.#write({
      sysctls: new Map([...sysctls, ...part.sysctls]),
      written: new Map([...written, ...part.written]),
      addresses: new Set([...addresses, ...part.addresses]),
      tun: part.tun ?? tun,
      tunBefore: part.tunBefore ?? tunBefore,
      rules: new Set([...rules, ...part.rules]),
    });
  }

  forget(part: RecordPart): void {
    const { sysctls, written, addresses, tun, tunBefore, rules } = this.#recorded;
    const keys = new Set(part.sysctls.map(([key]) => key));
    this.#write({
      sysctls: new Map([...sysctls].filter(([key]) => !keys.has(key))),
      written: new Map([...written].filter(([key]) => !keys.has(key))),
      addresses: without(addresses, part.addresses),
      tun: part.tun !== null && part.tun === tun ? null : tun,
      tunBefore: part.tunBefore === null ? tunBefore : null,
      rules: without(rules, part.rules),
    });
  }

  /** The pools' prefixes, and addresses that this machine has slices of. On disk when it returns. */
  noteGuarded(prefixes: readonly Prefix[], addresses: readonly Address[]): void {
    const known = this.#guarded;
    const isKnown =
      prefixes.length === known.prefixes.length && prefixes.every((each) => known.prefixes.includes(each));
    if (isKnown && addresses.every((each) => known.sliced.has(each))) return;
    this.#guarded = { prefixes, sliced: new Set([...known.sliced, ...addresses].slice(-sliced_max)) };
    this.#write(this.#recorded);
  }

  /** The host is as it was, and nothing is left to know. */
  remove(): void {
    removeFile(this.#folder);
    this.#recorded = nothingRecorded;
    this.#guarded = { prefixes: [], sliced: new Set() };
    this.#isBegun = false;
  }

  #write(recorded: Recorded): void {
    const { machine, tun, routeTable, mark, markMask, terminateTable } = this.identity;
    const { tunBefore } = recorded;
    const content: Content = {
      version: 4,
      host: this.#host,
      machine,
      tun,
      route_table: routeTable,
      mark,
      mark_mask: markMask,
      terminate_table: terminateTable,
      recorded: {
        sysctls: Object.fromEntries(recorded.sysctls),
        written: Object.fromEntries(recorded.written),
        addresses: [...recorded.addresses],
        tun: recorded.tun,
        tun_before: tunBefore && { name: tunBefore.name, is_up: tunBefore.isUp, queue: tunBefore.queue },
        rules: [...recorded.rules],
      },
      sliced: [...this.#guarded.sliced],
      prefixes: [...this.#guarded.prefixes],
    };
    replaceFile(this.#folder, fileName, `${JSON.stringify(content, null, 2)}\n`, true);
    this.#recorded = recorded;
    this.#isBegun = true;
  }
}

const removeFile = (folder: string): void => rmSync(join(folder, fileName), { force: true });

const without = <T>(all: ReadonlySet<T>, gone: readonly T[]): ReadonlySet<T> =>
  new Set([...all].filter((each) => !gone.includes(each)));

/** As people write it in the settings: marks in hexadecimal. */
const asWritten = (key: keyof StateIdentity, value: string | number | null): string =>
  (key === 'mark' || key === 'markMask') && value !== null ? `0x${value.toString(16)}` : String(value);

const identityOf = ({ machine, tun, route_table, mark, mark_mask, terminate_table }: Content) => ({
  ...{ machine, tun, routeTable: route_table, terminateTable: terminate_table },
  ...(mark === undefined ? {} : { mark }),
  ...(mark_mask === undefined ? {} : { markMask: mark_mask }),
});

/** Of an earlier layout, the addresses that an agent has put on the host. */
const guardedOf = (content: Content | undefined): Guarded => ({
  prefixes: (content?.prefixes ?? []).flatMap((text) => {
    const parsed = parsePrefix(text);
    return parsed.ok ? [parsed.value] : [];
  }),
  sliced: new Set([...(content?.recorded.addresses ?? []), ...(content?.sliced ?? [])] as Address[]),
});

const recordedOf = ({ recorded }: Content): Recorded => ({
  sysctls: new Map(Object.entries(recorded.sysctls)),
  written: new Map(Object.entries(recorded.written)),
  addresses: new Set(recorded.addresses as Address[]),
  tun: recorded.tun,
  tunBefore: recorded.tun_before && {
    name: recorded.tun_before.name,
    isUp: recorded.tun_before.is_up,
    queue: recorded.tun_before.queue,
  },
  rules: new Set(recorded.rules),
});

function readContent(folder: string): Result<Content | undefined, string> {
  const path = join(folder, fileName);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return ok(undefined);
    return err(`${path} cannot be read: ${String(cause)}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
    return ok(Content.parse(json));
  } catch {
    const { data } = Versioned.safeParse(json);
    if (data && !layouts.some((each) => each === data.version))
      return err(
        `${path} was written by another version of Fishery (layout ${data.version}; this one reads ${layouts.join(', ')}): ` +
          'install that version again and run its "fishery agent down", then start this one',
      );
    return err(
      `${path} is not what an agent of this version wrote. It says how this host was before: restore it from a copy. ` +
        'Without one, move it away and start the agent, which takes over what is on this host but does not know how ' +
        'sysctls were: put those that the file names back by hand, after "fishery agent down"',
    );
  }
}
