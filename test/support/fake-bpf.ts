import type { Probe } from '../../src/agent/steering/choose.ts';
import type { BpfCalls } from '../../src/agent/steering/steering-links.ts';
import type { SysError } from '../../src/sys/errno.ts';

type Attached = { link: number; program: string; interfaceIndex: number };

/** bpf(2) in memory: devices by index, programs, and links that go with their last descriptor. */
export class FakeBpf implements BpfCalls, Probe {
  readonly devices = new Map([
    ['lo', 1],
    ['up0', 3],
    ['fishtun', 7],
  ]);
  refuseLoad: SysError | undefined;
  refuseAttach = 0;
  refuseQuery = 0;
  /** How often a device that had a program was left without one although its link was open. */
  withoutProgram = 0;
  #fds = 10;
  readonly #programs = new Map<number, string>();
  readonly #links = new Map<number, Attached>();

  get openDescriptors(): number {
    return this.#programs.size + this.#links.size;
  }

  attached(device: string): readonly Attached[] {
    return [...this.#links.values()].filter(({ interfaceIndex }) => interfaceIndex === this.devices.get(device));
  }

  detachAll(device: string): void {
    for (const link of this.attached(device)) link.interfaceIndex = 0;
  }

  removeDevice(device: string): void {
    this.detachAll(device);
    this.devices.delete(device);
  }

  interfaceIndex(name: string): number {
    return this.devices.get(name) ?? 0;
  }

  loadClassifier(instructions: Uint8Array, name: string): number {
    if (this.refuseLoad) throw this.refuseLoad;
    const fd = this.#fds++;
    this.#programs.set(fd, `${name} ${instructions.length}`);
    return fd;
  }

  attachIngress(program: number, interfaceIndex: number): number {
    if (this.refuseAttach !== 0) return this.refuseAttach;
    const fd = this.#fds++;
    this.#links.set(fd, { link: fd, program: this.#programs.get(program) ?? '', interfaceIndex });
    return fd;
  }

  replaceProgram(link: number, program: number): number {
    const found = this.#links.get(link);
    if (!found || found.interfaceIndex === 0) return -67;
    this.#links.set(link, { ...found, program: this.#programs.get(program) ?? '' });
    return 0;
  }

  detachLink(link: number): number {
    const found = this.#links.get(link);
    if (found?.interfaceIndex) this.withoutProgram++;
    if (found) found.interfaceIndex = 0;
    return 0;
  }

  interfaceOfLink(link: number): number {
    const found = this.#links.get(link);
    if (!found) throw new Error(`descriptor ${link} is not open`);
    return found.interfaceIndex;
  }

  ingressLinks(interfaceIndex: number): readonly number[] | number {
    if (this.refuseQuery !== 0) return this.refuseQuery;
    return [...this.#links.values()].filter((each) => each.interfaceIndex === interfaceIndex).map(({ link }) => link);
  }

  closeFd(fd: number): void {
    if (!this.#programs.delete(fd) && !this.#links.delete(fd)) throw new Error(`descriptor ${fd} is not open`);
  }
}
