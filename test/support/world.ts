import { expect } from 'vitest';
import { parseAddress, type Address } from '../../src/net/address.ts';
import { formatPorts } from '../../src/net/ports.ts';
import { parsePrefix, type Prefix } from '../../src/net/prefix.ts';
import type { Protocol } from '../../src/net/protocol.ts';
import type { Result } from '../../src/net/result.ts';
import type { Claim, Command, CommandKind, Commands, LeaseReport, Scope } from '../../src/leases/commands.ts';
import type { LeaseError } from '../../src/leases/errors.ts';
import { limits } from '../../src/leases/limits.ts';
import type { Answer } from '../../src/leases/keyed.ts';
import { LeaseService, type Terms, type Trouble } from '../../src/leases/lease-service.ts';
import {
  formatToken,
  type Event,
  type Lease,
  type RouterDemand,
  type Session,
  type Slice,
  type HolderKind,
} from '../../src/leases/model.ts';
import type { Store } from '../../src/leases/store.ts';
import { MemoryStore } from './memory-store.ts';

export const second = 1_000_000;

export class FakeClock {
  us = 1_800_000_000 * second;
  nowUs = (): number => this.us;
  passSeconds = (s: number): void => void (this.us += s * second);
}

export const address = (text: string): Address => must(parseAddress(text));
export const prefix = (text: string): Prefix => must(parsePrefix(text));

/** The value of a result that must be one; the error as text otherwise. */
export function must<T>(result: Result<T, unknown>): T {
  if (result.ok) return result.value;
  throw new Error(JSON.stringify(result.error));
}

export const claim = (protocol: Protocol, ports: number | null, rest: Partial<Claim> = {}): Claim => ({
  protocol,
  ports,
  count: 1,
  mode: 'exclusive',
  binding: null,
  pool: null,
  select: null,
  family: null,
  sticky: false,
  address: null,
  at: null,
  ...rest,
});
export const tcp = (ports: number | null, rest: Partial<Claim> = {}): Claim => claim('tcp', ports, rest);
export const udp = (ports: number | null, rest: Partial<Claim> = {}): Claim => claim('udp', ports, rest);
export const shared = (ports: number | null = null, rest: Partial<Claim> = {}): Claim =>
  claim('tcp', ports, { mode: 'shared', ...rest });
export const at = (text: string, firstPort: number): Pick<Claim, 'at'> => ({
  at: { address: address(text), firstPort },
});

/** How a machine stands that was just created. */
export const asCreated = {
  limitedHolders: 0,
  ownSlices: 0,
  state: 'active',
  intent: 'active',
  drainBy: null,
  settled: true,
  wants: [],
  wanting: { lookAt: null, missing: [] },
} as const;

/** No router is waited for. */
export const nobody: RouterDemand = { ids: null, select: null, policy: 'none' };
/** What alice does, who answers for it. */
export const audited = (target: string) => ({
  provenance: {
    requestId: 'r',
    key: null,
    audit: {
      actor: { token: 7, name: 'alice', role: 'operator' as const },
      ...{ remoteAddress: '192.0.2.7', operation: 'anything', target },
    },
  },
});

/** A request's key, of the token with this number; `said` stands for all that the request says. */
export const keyed = (key: string, said = 'the same', token = 1, replaces?: readonly number[]) => ({
  provenance: {
    requestId: 'r',
    audit: null,
    key: { token, key, fingerprint: said, ...(replaces === undefined ? {} : { replaces }) },
  },
});

type PoolInput = Commands['createPool']['input'];

/**
 * A server's core without a server: a service over a store, a clock that tests move, and verbs that say in a few words
 * what came of a command, so that a test reads like a ledger.
 */
export class World {
  readonly store: Store;
  readonly clock: FakeClock;
  readonly service: LeaseService;
  readonly events: Event[] = [];
  readonly troubles: Trouble[] = [];
  readonly #holders = new Map<string, readonly string[]>();

  constructor(store: Store = new MemoryStore(), clock = new FakeClock()) {
    this.store = store;
    this.clock = clock;
    this.service = new LeaseService({ store, clock, onTrouble: (trouble) => this.troubles.push(trouble) });
    this.service.onEvents((events) => this.events.push(...events));
  }

  execute<K extends CommandKind>(command: Command<K>, terms?: Terms): Promise<Answer<K>> {
    return this.service.execute(command, terms);
  }

  // What tests need to be there.

  pool(id: string, prefixes: readonly string[], rest: Partial<PoolInput> = {}): Promise<string> {
    const cooldownUs = { tcp: 120 * second, udp: 60 * second, icmp: 30 * second };
    const size = { slicePorts: 2_048, usablePorts: { first: 1_024, last: 65_535 }, sharedBlockPorts: 128 };
    const terms = { labels: {}, ...size, routers: nobody };
    return this.#say(
      this.execute({ kind: 'createPool', id, prefixes: prefixes.map(prefix), ...terms, cooldownUs, ...rest }),
      (pool) => pool.id,
    );
  }

  machine(id: string, enforcement: 'agent' | 'none' = 'agent', fenceS = 30): Promise<string> {
    return this.#say(
      this.execute({
        kind: 'createMachine',
        id,
        labels: {},
        enforcement,
        fenceUs: fenceS * second,
        mark: null,
        nextHops: [],
      }),
      (machine) => machine.id,
    );
  }

  holder(
    machine: string,
    name: string,
    kind: HolderKind = 'proxy',
    uid: number | null = kind === 'proxy' ? this.#uidOf(machine, name) : null,
  ) {
    return this.#say(
      this.execute({ kind: 'putHolder', machine, name, holderKind: kind, uid }),
      (holder) => `${holder.name} ${holder.uid}`,
    );
  }

  /** 900 for the first holder of a machine, then 901, and so on. */
  #uidOf(machine: string, name: string): number {
    const names = this.#holders.get(machine) ?? [];
    if (!names.includes(name)) this.#holders.set(machine, [...names, name]);
    return 900 + (this.#holders.get(machine)?.indexOf(name) ?? 0);
  }

  async session(machine: string, holder: string, ttlS = 30, scope: Scope = {}): Promise<Session> {
    return must(await this.execute({ kind: 'openSession', scope, machine, holder, ttlUs: ttlS * second }));
  }

  async slices(machine: string, pool: string, rest: Partial<Commands['assignSlices']['input']> = {}) {
    return must(await this.execute({ kind: 'assignSlices', machine, pool, count: 1, family: null, at: null, ...rest }));
  }

  /** Slices that the machine's agent has confirmed, or that need no confirmation. */
  async ready(machine: string, pool: string, count = 1): Promise<readonly Slice[]> {
    const slices = await this.slices(machine, pool, { count });
    const open = slices.filter((slice) => slice.state === 'assigning');
    const reports = open.map((slice) => ({
      slice: slice.id,
      generation: slice.generation,
      state: 'assigned' as const,
    }));
    if (open.length > 0)
      must(await this.execute({ kind: 'report', machine, revision: 0, leases: [], slices: reports }));
    return slices;
  }

  // What happens.

  /** What an operator says that a machine is to be; what it is then. */
  say(id: string, change: Partial<Commands['updateMachine']['input']>): Promise<string> {
    return this.#say(this.execute({ kind: 'updateMachine', id, ...change }), ({ state, intent }) =>
      state === intent ? state : `${state}, ${intent} when it is back`,
    );
  }

  remove(id: string, ifRevision: number | null = null): Promise<string> {
    return this.#say(this.execute({ kind: 'deleteMachine', id, ifRevision }), (machine) => `${machine.id} is gone`);
  }

  removeHolder(machine: string, name: string, ifRevision: number | null = null): Promise<string> {
    return this.#say(
      this.execute({ kind: 'deleteHolder', machine, name, ifRevision }),
      (gone) => `${gone.name} is gone`,
    );
  }

  assign(machine: string, pool: string, rest: Partial<Commands['assignSlices']['input']> = {}): Promise<string> {
    const input = { machine, pool, count: 1, family: null, at: null, ...rest };
    return this.#say(this.execute({ kind: 'assignSlices', ...input }), (slices) => slices.map(showSlice).join(', '));
  }

  drain(id: number, terms: Partial<Commands['drainSlice']['input']> = {}): Promise<string> {
    return this.#say(this.execute({ kind: 'drainSlice', id, ...terms }), showSlice);
  }

  move(id: number, machine: string, terms: Partial<Commands['moveSlice']['input']> = {}): Promise<string> {
    return this.#say(this.execute({ kind: 'moveSlice', id, machine, ...terms }), showSlice);
  }

  allocate(id: number, allocator: Slice['allocator'], terms: Partial<Commands['drainSlice']['input']> = {}) {
    return this.#say(this.execute({ kind: 'handOverSlice', id, allocator, ...terms }), showSlice);
  }

  reclaim(id: number): Promise<string> {
    return this.#say(this.execute({ kind: 'reclaimSlice', id }), showSlice);
  }

  /** Many at once. */
  revokeAll(scope: Partial<Commands['revokeLeases']['input']>): Promise<string> {
    const all = { machine: null, holder: null, pool: null, select: null, prefix: null, session: null, lease: null };
    const command = { kind: 'revokeLeases', ...all, deadlineUs: null, forced: false, reason: 'why', ...scope } as const;
    return this.#say(this.execute(command), ({ state }) => state);
  }

  grant(session: Pick<Session, 'id'>, claims: Claim | readonly Claim[], scope: Scope = {}): Promise<string> {
    const list = Array.isArray(claims) ? (claims as readonly Claim[]) : [claims as Claim];
    return this.#say(this.execute({ kind: 'grantLeases', scope, session: session.id, claims: list }), (leases) =>
      leases.map(showLease).join(', '),
    );
  }

  async leases(session: Pick<Session, 'id'>, ...claims: Claim[]): Promise<readonly Lease[]> {
    return must(await this.execute({ kind: 'grantLeases', scope: {}, session: session.id, claims }));
  }

  release(lease: Lease, token = formatToken(lease), scope: Scope = {}): Promise<string> {
    return this.#say(this.execute({ kind: 'releaseLease', scope, id: lease.id, token }), showLease);
  }

  revoke(id: number, reason = '', deadlineUs: number | null = null, forced = false): Promise<string> {
    return this.#say(this.execute({ kind: 'revokeLease', id, deadlineUs, forced, reason }), showLease);
  }

  keep(session: Pick<Session, 'id'>, scope: Scope = {}): Promise<string> {
    return this.#say(
      this.execute({ kind: 'keepSession', scope, id: session.id }),
      (kept) => `until +${(kept.expiresAt - this.clock.us) / second} s`,
    );
  }

  end(session: Pick<Session, 'id'>, ending: Session['ending'] = 'released', scope: Scope = {}): Promise<string> {
    return this.#say(
      this.execute({ kind: 'endSession', scope, id: session.id, ending: ending ?? 'released' }),
      (ended) => `${ended.state} ${ended.ending}`,
    );
  }

  /** What the agent of the lease's machine says of it. */
  report(
    lease: Lease,
    state: 'active' | 'empty' | 'refused' | 'unit_gone',
    rest: Partial<{ token: string; machine: string }> = {},
  ) {
    const item = { lease: lease.id, token: rest.token ?? formatToken(lease) };
    const report: LeaseReport =
      state === 'refused' ? { ...item, state, errno: 'EADDRINUSE', detail: 'port 5 of nginx' } : { ...item, state };
    return this.#say(
      this.execute({
        kind: 'report',
        machine: rest.machine ?? lease.machine,
        revision: 0,
        leases: [report],
        slices: [],
      }),
      ({ rejected }) =>
        rejected.length === 0 ? 'taken' : rejected.map(({ item, code }) => `${item} ${code}`).join(', '),
    );
  }

  reportSlice(machine: string, slice: Pick<Slice, 'id' | 'generation'>, state: 'assigned' | 'empty'): Promise<string> {
    const slices = [{ slice: slice.id, generation: slice.generation, state }];
    return this.#say(this.execute({ kind: 'report', machine, revision: 0, leases: [], slices }), ({ rejected }) =>
      rejected.length === 0 ? 'taken' : rejected.map(({ item, code }) => `${item} ${code}`).join(', '),
    );
  }

  router(id: string, labels: Record<string, string> = {}): Promise<string> {
    return this.#say(this.execute({ kind: 'putRouter', id, labels }), (router) => router.id);
  }

  /** The router says that all is true there, through `revision`: the end of the log, when not given. */
  async applied(router: string, revision?: number): Promise<string> {
    const reached = revision ?? (await this.store.reader.revision());
    return this.#say(
      this.execute({ kind: 'routerApplied', router, revision: reached }),
      (said) => `${said.appliedRevision}`,
    );
  }

  alive(machine: string, bootId = 'boot-1', appliedRevision = 0): Promise<string> {
    return this.#say(
      this.execute({ kind: 'agentKeepalive', machine, bootId, version: '1', appliedRevision }),
      ({ fenceUs }) => `for ${fenceUs / second} s`,
    );
  }

  /** A client says what it has seen; the epoch that the table is in then. */
  seen(epoch: string, revision: number): Promise<string> {
    const newId = `epoch-${this.events.length}`;
    return this.#say(
      this.execute({ kind: 'weighSeen', epoch, revision, witness: 'token-7', newId }),
      (weighed) => `epoch ${weighed.epoch}`,
    );
  }

  confirm(number: number, by = 'token-9'): Promise<string> {
    return this.#say(this.execute({ kind: 'confirmEpoch', number, by }), (epoch) => `by ${epoch.confirmedBy}`);
  }

  /** Sweeps until nothing is left over; how many rows moved. */
  async sweep(itemsMax: number = limits.sweep_items_max): Promise<number> {
    let moved = 0;
    for (let round = 0; round < 1_000; round++) {
      const swept = must(await this.execute({ kind: 'sweep', itemsMax }));
      moved += swept.moved;
      if (!swept.more) return moved;
    }
    throw new Error('the sweep does not come to an end');
  }

  /** Time passes, and the sweeper comes by at its end until nothing moves any more. */
  async pass(seconds: number): Promise<void> {
    this.clock.passSeconds(seconds);
    for (let round = 0; (await this.sweep()) > 0; round++)
      if (round > 100) throw new Error('the sweeps do not come to an end');
  }

  /** The lease as a reader sees it. */
  async look(lease: Pick<Lease, 'id'>): Promise<string> {
    const found = await this.store.reader.lease(lease.id);
    return found ? showLease(found) : 'none';
  }

  async lookSlice(slice: Pick<Slice, 'id'>): Promise<string> {
    const found = await this.store.reader.slice(slice.id);
    return found ? showSlice(found) : 'none';
  }

  async lookMachine(id: string): Promise<string> {
    return (await this.store.reader.machine(id))?.state ?? 'none';
  }

  /** The extents of a slice for one protocol: `free 4096-5119, blocked 5120-5127`. */
  async extents(slice: Pick<Slice, 'id'>, protocol: Protocol = 'tcp'): Promise<string> {
    const { extents } = await this.store.reader.tiling(slice.id);
    return extents
      .filter((extent) => extent.protocol === protocol)
      .map((extent) => `${extent.state} ${formatPorts(extent.ports)}`)
      .join(', ');
  }

  async #say<T>(outcome: Promise<Result<T, LeaseError>>, show: (value: T) => string): Promise<string> {
    const result = await outcome;
    return result.ok ? show(result.value) : showError(result.error);
  }
}

export const showSlice = (slice: Slice): string =>
  `${slice.address}:${formatPorts(slice.ports)} ${slice.state}${slice.machine === null ? '' : ` on ${slice.machine}`} g${slice.generation}`;

export const showLease = (lease: Lease): string =>
  `${lease.address}:${formatPorts(lease.ports)}/${lease.protocol}` +
  `${lease.mode === 'shared' ? ` shared ${lease.binding}` : ''} ${lease.state}${lease.ending === null ? '' : ` ${lease.ending}`}`;

const showError = (error: LeaseError): string => error.code;

type Row = readonly [step: string, run: () => unknown, outcome: unknown];

/** Runs the rows in order and compares what each came to. A row that differs shows beside those before and after it. */
export async function ledger(rows: readonly Row[]): Promise<void> {
  const came: unknown[] = [];
  for (const [, run] of rows) came.push(await run());
  expect(rows.map(([step], index) => [step, came[index]])).toEqual(rows.map(([step, , outcome]) => [step, outcome]));
}
