import { SysError } from '../../sys/errno.ts';
import type { SteeringState } from '../host/host-state.ts';
import type { LinkStore } from './link-store.ts';
import { steeringProgram, type Program, type SteeringTarget } from './program.ts';

/** The kernel, as far as steering by eBPF needs it; `src/sys/bpf.ts` says what each does and refuses. */
export type BpfCalls = Readonly<{
  /** 0: no device of that name. */
  interfaceIndex(name: string): number;
  loadClassifier(instructions: Uint8Array, name: string, licence: string): number;
  attachIngress(program: number, interfaceIndex: number): number;
  replaceProgram(link: number, program: number): number;
  detachLink(link: number): number;
  interfaceOfLink(link: number): number;
  closeFd(fd: number): void;
}>;

export type SteeringLinksOptions = Readonly<{
  calls: BpfCalls;
  store: LinkStore;
  tun: string;
  mark: number;
  markMask: number;
  /** Devices on which replies arrive; one that is not there is waited for. */
  devices: readonly string[];
}>;

/** As the package is licensed; the program calls nothing that asks for another one. */
export const licence = 'Apache-2.0';

/** The steering program on the devices of this network namespace: what is attached, attaching, detaching. */
export class SteeringLinks {
  readonly #options: SteeringLinksOptions;

  constructor(options: SteeringLinksOptions) {
    this.#options = options;
  }

  /** Every device that has the program or should have it; one that has none at all is not in it. */
  observe(): ReadonlyMap<string, SteeringState> {
    const { calls, store, devices } = this.#options;
    const wanted = this.#program()?.label;
    const states = new Map<string, SteeringState>();
    for (const { device, label, fd } of store.list()) {
      const isAttached = this.#isOn(device, fd);
      states.set(device, isAttached && label === wanted ? 'current' : isAttached ? 'stale' : 'lost');
    }
    for (const device of devices) if (calls.interfaceIndex(device) === 0) states.set(device, 'no-device');
    return states;
  }

  /**
   * Attaches the program for the TUN device as it is now. Where another version is attached, the new one takes its place
   * between two packets. Throws SysError, or an Error when there is no TUN device.
   */
  attach(device: string): void {
    const { calls, store, tun } = this.#options;
    const program = this.#program();
    if (!program) throw new Error(`there is no device ${tun} to steer to`);
    const fd = calls.loadClassifier(program.instructions, program.label, licence);
    try {
      const kept = store.list().find((link) => link.device === device);
      const isReplaced = kept && this.#isOn(device, kept.fd) && calls.replaceProgram(kept.fd, fd) === 0;
      if (isReplaced) {
        store.keep({ device, label: program.label, fd: kept.fd });
        return;
      }
      const link = calls.attachIngress(fd, calls.interfaceIndex(device));
      if (link < 0) throw new SysError('bpf(LINK_CREATE)', link, device);
      store.keep({ device, label: program.label, fd: link });
    } finally {
      calls.closeFd(fd);
    }
  }

  /** Takes the program off a device, whoever has the link open; none there is fine. */
  detach(device: string): void {
    const { calls, store } = this.#options;
    for (const link of store.list()) if (link.device === device) calls.detachLink(link.fd);
    store.drop(device);
  }

  #isOn(device: string, link: number): boolean {
    const { calls } = this.#options;
    const at = calls.interfaceOfLink(link);
    return at !== 0 && at === calls.interfaceIndex(device);
  }

  #program(): Program | undefined {
    const { calls, tun, mark, markMask } = this.#options;
    const tunIndex = calls.interfaceIndex(tun);
    const target: SteeringTarget = { tunIndex, mark, markMask };
    return tunIndex === 0 ? undefined : steeringProgram(target);
  }
}
