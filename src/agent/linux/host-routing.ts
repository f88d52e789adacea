import type { Address, Family } from '../../net/address.ts';
import { SysError } from '../../sys/errno.ts';
import { routeTypes } from '../../sys/route-message.ts';
import { loopbackLink, Routing } from '../../sys/routing.ts';
import { HostProblem, type HostStep } from '../host/host.ts';
import { describeStep, type HostState, type Origin } from '../host/host-state.ts';
import { originOf, routeOf, routeProtocol, routeText, ruleOf, ruleText } from './routing-text.ts';

export type RoutingStep = Extract<
  HostStep,
  {
    do:
      | 'link-up'
      | 'link-down'
      | 'add-route'
      | 'remove-route'
      | 'add-rule'
      | 'remove-rule'
      | 'add-address'
      | 'remove-address';
  }
>;

/** Links, addresses, routes and rules of this network namespace, in the words of host-state.ts. */
export class HostRouting {
  readonly #families: readonly Family[];
  readonly #routing = new Routing();

  constructor(families: readonly Family[]) {
    this.#families = families;
  }

  get portid(): number {
    return this.#routing.portid;
  }

  rules(): ReadonlyMap<string, Origin> {
    return this.#entries((family) => this.#routing.rules(family).map((rule) => [ruleText(rule), originOf(rule)]));
  }

  routes(tables: readonly number[]): ReadonlyMap<string, Origin> {
    return this.#entries((family) =>
      tables.flatMap((table) =>
        this.#routing.routes(family, table).map((route) => [routeText(route, this.#nameOf), originOf(route)] as const),
      ),
    );
  }

  addresses(): Pick<HostState, 'addresses' | 'linkAddresses'> {
    const addresses = new Set<Address>();
    const linkAddresses = new Set<Address>();
    for (const family of [4, 6] as const)
      for (const { link, address } of this.#routing.addresses(family))
        (link === loopbackLink ? addresses : linkAddresses).add(address);
    return { addresses, linkAddresses };
  }

  device(name: string): HostState['tun'] {
    const link = this.#routing.link({ name });
    return link === undefined ? 'absent' : link.isUp ? 'up' : 'down';
  }

  /** What the kernel made a device as; null for hardware, undefined where there is none of that name. */
  kindOf(name: string): string | null | undefined {
    return this.#routing.link({ name })?.kind;
  }

  /** Throws HostProblem, which names the step and what the kernel said. */
  carryOut(step: RoutingStep): void {
    try {
      this.#change(step);
    } catch (error) {
      if (!(error instanceof SysError || error instanceof HostProblem)) throw error;
      throw new HostProblem(`${describeStep(step)}: ${error.message}`, { cause: error });
    }
  }

  close(): void {
    this.#routing.close();
  }

  #change(step: RoutingStep): void {
    switch (step.do) {
      case 'link-up':
        this.#routing.setUp(this.#indexOf(step.name));
        return;
      case 'link-down':
        this.#routing.setDown(this.#indexOf(step.name));
        return;
      case 'add-route':
      case 'remove-route': {
        const { device, to, ...route } = routeOf(step.route);
        const link = to === 'here' ? loopbackLink : device === null ? undefined : this.#indexOf(device);
        this.#routing.changeDefaultRoute(step.do === 'add-route' ? 'add' : 'remove', {
          ...route,
          protocol: routeProtocol,
          type: { here: routeTypes.local, nowhere: routeTypes.blackhole, device: routeTypes.unicast }[to],
          ...(link === undefined ? {} : { link }),
        });
        return;
      }
      case 'add-rule':
      case 'remove-rule':
        this.#routing.changeRule(step.do === 'add-rule' ? 'add' : 'remove', ruleOf(step.rule));
        return;
      case 'add-address':
      case 'remove-address':
        this.#routing.changeAddress(step.do === 'add-address' ? 'add' : 'remove', step.address);
    }
  }

  #entries(read: (family: Family) => readonly (readonly [string, Origin])[]): ReadonlyMap<string, Origin> {
    return new Map(this.#families.flatMap(read));
  }

  #indexOf(name: string): number {
    const link = this.#routing.link({ name });
    if (link === undefined) throw new HostProblem(`there is no network device ${name}`);
    return link.index;
  }

  readonly #nameOf = (index: number): string => this.#routing.link({ index })?.name ?? `if${index}`;
}
