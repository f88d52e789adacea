import {
  attachIngress,
  detachLink,
  ingressLinks,
  interfaceOfLink,
  loadClassifier,
  replaceProgram,
} from '../../sys/bpf.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { interfaceIndex } from '../../sys/interfaces.ts';
import type { Probe } from './choose.ts';
import type { BpfCalls } from './steering-links.ts';

/** The kernel of this machine, in the network namespace of this thread. */
export const kernelCalls: BpfCalls & Probe = {
  interfaceIndex,
  loadClassifier,
  attachIngress,
  replaceProgram,
  detachLink,
  interfaceOfLink,
  ingressLinks,
  closeFd,
};
