import { err, ok, type Result } from '../../net/result.ts';
import { errnoName, SysError } from '../../sys/errno.ts';
import { steeringProgram } from './program.ts';
import { licence, type BpfCalls } from './steering-links.ts';

/** `ebpf`: a program at tc ingress, early demux stays as it is. `nftables`: marks, with early demux off. */
export const steeringModes = ['ebpf', 'nftables'] as const;
export type SteeringMode = (typeof steeringModes)[number];

/** What was chosen, and why: a line for people. */
export type Steering = Readonly<{ mode: SteeringMode; why: string }>;

export type Probe = Pick<BpfCalls, 'interfaceIndex' | 'loadClassifier' | 'closeFd'> &
  Readonly<{ ingressLinks(interfaceIndex: number): readonly number[] | number }>;

/** `setting` as the settings have it. The error is what to do when `ebpf` is insisted on and this host cannot. */
export function chooseSteering(
  setting: 'auto' | SteeringMode,
  devices: readonly string[],
  probe: Probe,
): Result<Steering, string> {
  if (setting === 'nftables') return ok({ mode: 'nftables', why: 'the settings say so' });
  const obstacle = obstacleToEbpf(devices, probe);
  if (obstacle === undefined)
    return ok({
      mode: 'ebpf',
      why: setting === 'ebpf' ? 'the settings say so' : 'this host can attach programs at tc ingress',
    });
  if (setting === 'ebpf')
    return err(`steering by eBPF does not work here: ${obstacle}; set steering to auto or nftables`);
  return ok({ mode: 'nftables', why: obstacle });
}

/** Why not; nothing is attached for it. Devices that are not there yet cannot be asked. */
function obstacleToEbpf(devices: readonly string[], probe: Probe): string | undefined {
  try {
    const { instructions, label } = steeringProgram({ tunIndex: 1, mark: 1, markMask: 1 });
    probe.closeFd(probe.loadClassifier(instructions, label, licence));
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return error.code === 'EPERM'
      ? 'loading a program takes CAP_BPF and CAP_NET_ADMIN, and this process may not'
      : `the kernel does not take the program: ${error.message}`;
  }
  for (const device of ['lo', ...devices]) {
    const index = probe.interfaceIndex(device);
    const links = index === 0 ? [] : probe.ingressLinks(index);
    if (typeof links === 'number')
      return `the kernel has no tcx links on ${device} (${errnoName(links)}): they came with Linux 6.6`;
  }
  return undefined;
}
