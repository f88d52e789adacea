import type { PortUse, ProtocolUse } from '../../fish/ports/port-use.ts';
import type { Logger } from '../../ops/logger.ts';
import type { ClaimOfOne, Lease } from '../../wire/leases.ts';
import {
  answerOf,
  answers,
  isLost,
  withoutGrowth,
  type Answer,
  type FishClaim,
  type Growth,
} from '../fish/fish-claims.ts';
import type { LeasePlaces } from './lease-places.ts';
import type { LeaseSource } from './lease-source.ts';
import { freshMemory, planLeases, type AddedLease, type ClaimUse, type GrowthMemory } from './lease-growth.ts';

export type ElasticParts = Readonly<{
  /** Where leases are had. */
  places: Pick<LeasePlaces, 'grant' | 'release'>;
  /** Who it is for, as the log calls it. */
  who: string;
  claims: readonly FishClaim[];
  isRefused(lease: string): boolean;
  /** null while there is no fish. */
  portUse(): Promise<PortUse | null>;
  /** No new flow gets a port of these leases any more, and of no others. */
  drain(leases: readonly string[]): Promise<void>;
  /** Milliseconds, never backwards. */
  now(): number;
  log: Pick<Logger, 'info' | 'warn'>;
}>;

/** How a claim that may grow is. */
export type GrowthStatus = Readonly<{
  /** Its place in the settings, and what it asks for: `0: tcp shared`. */
  claim: string;
  /** Of all its leases, those that drain included, */
  ports: number;
  ports_max: number;
  /** and flows toward the destination that has most of them, with whatever port of the protocol. */
  busiest: number;
  leases: number;
  draining: number;
  /** Why it has less than it needs. */
  problem: string | null;
}>;

type Added = Answer & { drainingSince: number | null };
type Elastic = {
  readonly claim: FishClaim;
  readonly policy: Growth;
  added: Added[];
  memory: GrowthMemory;
  /** Times in a row that the server would not give more. */
  failures: number;
  /** Of the last look: ports of the claim's first lease, and flows toward the busiest destination. */
  base: number;
  busiest: number;
  problem: string | null;
};

/** What one look is about: by claim, the lease that each has without growing. */
export type Look = Readonly<{
  bases: readonly (Answer | undefined)[];
  desired: LeaseSource;
  signal: AbortSignal;
}>;

const between_looks_ms_min = 400;
const retry_first_ms = 1_000;
const retry_max_ms = 60_000;

/**
 * The leases that claims of fish have on top of their first one, as many as their ports are used: `planLeases` decides, this
 * asks fish, the server, and remembers. A lease that is given back gets no new flows first.
 */
export class ElasticLeases {
  readonly #parts: ElasticParts;
  readonly #claims: readonly (Elastic | null)[];
  #lookedAt = -Infinity;

  constructor(parts: ElasticParts) {
    this.#parts = parts;
    this.#claims = parts.claims.map((claim) =>
      claim.grow
        ? { claim, policy: claim.grow, added: [], memory: freshMemory, failures: 0, base: 0, busiest: 0, problem: null }
        : null,
    );
  }

  /** Whether there is anything that may grow. */
  get isNeeded(): boolean {
    return this.#claims.some((each) => each !== null);
  }

  /** Takes over leases that a former agent had added; what is left are nobody's. */
  adopt(leases: readonly Lease[]): readonly Lease[] {
    const left = new Set(leases);
    for (const elastic of this.#claims) {
      if (!elastic) continue;
      const like = furtherClaim(elastic, undefined);
      const ours = [...left].filter((lease) => answers(lease, like));
      for (const lease of ours) left.delete(lease);
      elastic.added.push(...ours.map((lease) => ({ ...answerOf(lease), drainingSince: null })));
    }
    return [...left];
  }

  /** A session is over, and with it all of its leases. */
  forget(isIts: (lease: string) => boolean): void {
    for (const elastic of this.#claims) if (elastic) elastic.added = elastic.added.filter(({ lease }) => !isIts(lease));
  }

  status(): readonly GrowthStatus[] {
    return this.#claims.flatMap((elastic, index) => {
      if (!elastic) return [];
      const { claim, policy, added, base, busiest, problem } = elastic;
      return {
        claim: `${index}: ${claim.protocol} ${claim.mode}`,
        ports: base + added.reduce((sum, { ports }) => sum + ports, 0),
        ports_max: policy.ports_max,
        busiest,
        leases: added.length,
        draining: added.filter(({ drainingSince }) => drainingSince !== null).length,
        problem,
      };
    });
  }

  /** Does what is to be done now; call it as often as you like. */
  async look(o: Look): Promise<void> {
    const now = this.#parts.now();
    if (now - this.#lookedAt < between_looks_ms_min) return;
    this.#lookedAt = now;
    const use = await this.#parts.portUse();
    if (!use) return;
    const grown = new Set<string>();
    for (const [index, elastic] of this.#claims.entries()) {
      const base = o.bases[index];
      if (!elastic || !base) continue;
      elastic.added = elastic.added.filter((each) => !isLost(each, o.desired, (lease) => this.#parts.isRefused(lease)));
      const kind = `${elastic.claim.protocol}/${base.family}`;
      await this.#adapt(elastic, base, this.#useOf(elastic, base, o.bases, use), {
        ...o,
        use,
        mayGrow: !grown.has(kind),
      });
      grown.add(kind);
    }
    await this.#tellDraining(use);
  }

  async #adapt(
    elastic: Elastic,
    base: Answer,
    claimUse: ClaimUse,
    o: Look & Readonly<{ use: PortUse; mayGrow: boolean }>,
  ): Promise<void> {
    const { policy } = elastic;
    const now = this.#parts.now();
    const flowsBy = new Map(o.use.leases.map((each) => [each.lease, each.draining ? each.flows : Infinity]));
    const leases = elastic.added.map(({ lease, ports, drainingSince }): AddedLease => {
      // Only when fish says that it drains does it count that it has no flows.
      const flows = flowsBy.get(lease) ?? 0;
      return { lease, ports, flows: drainingSince === null ? (flowsOf(o.use, lease) ?? 0) : flows, drainingSince };
    });
    const step_ports = 2 ** Math.ceil(Math.log2(policy.step_ports ?? base.ports));
    const plan = planLeases(claimUse, leases, { ...policy, step_ports }, elastic.memory, now);
    elastic.memory = plan.memory;
    elastic.base = base.ports;
    elastic.busiest = claimUse.busiest;
    if (plan.atMax) this.#complain(elastic, `all ${policy.ports_max} ports that it may have are needed (ports_max)`);
    else if (!plan.isPressed) {
      elastic.problem = null;
      elastic.failures = 0;
    }
    this.#mark(elastic, plan.drain, now);
    this.#mark(elastic, plan.reopen, null);
    for (const lease of plan.release) await this.#release(elastic, lease, o.signal);
    for (let asked = 0; o.mayGrow && asked < plan.grow; asked++) if (!(await this.#grow(elastic, step_ports, o))) break;
  }

  /** One lease more; false when there is none to be had. */
  async #grow(elastic: Elastic, step_ports: number, { signal }: Look): Promise<boolean> {
    const { places, who, log, now } = this.#parts;
    try {
      const claim = furtherClaim(elastic, step_ports);
      const lease = await places.grant(claim, signal);
      elastic.added.push({ ...answerOf(lease), drainingSince: null });
      elastic.failures = 0;
      elastic.problem = null;
      log.info(
        { lease: lease.id, ports: lease.ports, busiest: elastic.busiest },
        `${who} grows: it was granted a lease`,
      );
      return true;
    } catch (error) {
      signal.throwIfAborted();
      const wait_ms = Math.min(retry_max_ms, retry_first_ms * 2 ** Math.min(elastic.failures++, 10));
      elastic.memory = { ...elastic.memory, retryAt: now() + wait_ms };
      this.#complain(elastic, `no more ports: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  async #release(elastic: Elastic, lease: string, signal: AbortSignal): Promise<void> {
    const given = elastic.added.find((each) => each.lease === lease);
    if (!given) return;
    try {
      await this.#parts.places.release({ id: lease, token: given.token }, signal);
      elastic.added = elastic.added.filter((each) => each !== given);
      this.#parts.log.info({ lease }, `${this.#parts.who} shrinks: a lease was given back`);
    } catch (error) {
      signal.throwIfAborted();
      // It stays drained, and is tried again with the next look; or it is over, which the desired state says.
      this.#complain(
        elastic,
        `a lease cannot be given back: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  #mark(elastic: Elastic, lease: string | null, drainingSince: number | null): void {
    for (const each of elastic.added) if (each.lease === lease) each.drainingSince = drainingSince;
  }

  /** Fish may be another one by now, which knows of nothing. */
  async #tellDraining(use: PortUse): Promise<void> {
    const wanted = this.#claims.flatMap(
      (elastic) => elastic?.added.filter(({ drainingSince }) => drainingSince !== null).map(({ lease }) => lease) ?? [],
    );
    const told = new Set(use.leases.filter(({ draining }) => draining).map(({ lease }) => lease));
    const known = new Set(use.leases.map(({ lease }) => lease));
    const expected = wanted.filter((lease) => known.has(lease));
    if (told.size !== expected.length || expected.some((lease) => !told.has(lease))) await this.#parts.drain(wanted);
  }

  /** The claim's ports, and those that others of its protocol have, of which new flows make no difference. */
  #useOf(elastic: Elastic, base: Answer, bases: Look['bases'], use: PortUse): ClaimUse {
    const { protocol } = elastic.claim;
    const isOurs = (each: ProtocolUse) => each.protocol === protocol && each.family === base.family;
    const { busiest = 0, refused = 0 } = use.protocols.find(isOurs) ?? {};
    const elsewhere = this.#parts.claims.reduce((sum, claim, index) => {
      const other = bases[index];
      if (claim.protocol !== protocol || other?.family !== base.family || other === base) return sum;
      const open = this.#claims[index]?.added.filter(({ drainingSince }) => drainingSince === null) ?? [];
      return open.reduce((ports, each) => ports + each.ports, sum + other.ports);
    }, 0);
    return { base: base.ports, elsewhere, busiest, refused };
  }

  #complain(elastic: Elastic, problem: string): void {
    if (elastic.problem !== problem)
      this.#parts.log.warn({ claim: elastic.claim }, `${this.#parts.who} needs ports: ${problem}`);
    elastic.problem = problem;
  }
}

const flowsOf = (use: PortUse, lease: string): number | undefined =>
  use.leases.find((each) => each.lease === lease)?.flows;

/** What is asked for on top: the same, anywhere, as many ports as a step has; undefined: as many as the settings say. */
function furtherClaim({ claim, policy }: Elastic, step_ports: number | undefined): ClaimOfOne {
  const { at: _, ...anywhere } = withoutGrowth(claim);
  return { ...anywhere, ports: step_ports ?? policy.step_ports ?? claim.ports };
}
