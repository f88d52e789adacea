import { steeringProgram } from '../../../src/agent/steering/program.ts';
import {
  attachIngress,
  detachLink,
  detachLinkById,
  ingressLinks,
  interfaceOfLink,
  loadClassifier,
  replaceProgram,
} from '../../../src/sys/bpf.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { interfaceIndex } from '../../../src/sys/interfaces.ts';

const fds: number[] = [];
const kept = (fd: number): number => {
  if (fd >= 0) fds.push(fd);
  return fd;
};

/** bpf(2), as a test asks for it; devices by name. */
export const programOperations = {
  /** A descriptor, or the words of the refusal. `r0 = constant; exit` where a constant is given. */
  loadProgram(what: { tunIndex: number } | { returns: number } | { broken: true }): number | string {
    const instructions =
      'tunIndex' in what
        ? steeringProgram({ ...what, mark: 42, markMask: 0xff }).instructions
        : 'returns' in what
          ? Uint8Array.from([0xb7, 0, 0, 0, what.returns, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
          : new Uint8Array(16);
    try {
      return kept(loadClassifier(instructions, 'fishery_test', 'Apache-2.0'));
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  },
  attachProgram: (program: number, device: string) => kept(attachIngress(program, interfaceIndex(device))),
  replaceProgram: (link: number, program: number) => replaceProgram(link, program),
  detachLink: (link: number) => detachLink(link),
  detachLinkById: (id: number) => detachLinkById(id),
  interfaceOfLink: (link: number) => interfaceOfLink(link),
  ingressLinks: (device: string) => ingressLinks(interfaceIndex(device)),
  linksOfIndex: (index: number) => ingressLinks(index),
  interfaceIndex: (device: string) => interfaceIndex(device),
  closePrograms: () => fds.splice(0).forEach(closeFd),
};
