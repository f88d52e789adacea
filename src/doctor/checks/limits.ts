import { placeholderBudget } from '../../agent/start/preflight.ts';
import { defineCheck, type Check, type Finding } from '../check.ts';

/** LimitNOFILE of the units. */
const units_descriptors = 1_048_576;
/** Slab of one TCP socket with its inode, dentry and file. */
const placeholder_bytes = 4_096;
const files_full_ratio = 0.9;

export const limitChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'descriptor-limit',
      title: 'fewer descriptors are allowed than placeholders are wanted',
      why: 'Every placeholder is a descriptor of a keeper: what all keepers together cannot hold is refused, though its ports are free.',
      remedy: 'Set `LimitNOFILE=` in the units, or claim less (`claims`, `placeholders_max`).',
      worst: 'error',
    },
    ['limits', 'setup'],
    ({ limits, setup }) => {
      if (setup.wanted === null) return [];
      // The agent's own reckoning; files and memory of the host have checks of their own.
      const spare = { files: Infinity, memory_bytes: Infinity };
      const budget = placeholderBudget({ descriptors_max: limits.descriptors_hard, spare, held: 0 }, setup.wanted);
      if (budget.ok) return [];
      const what = `${limits.of} may have ${limits.descriptors_hard} descriptors open: ${budget.error}`;
      const mend = `systemctl edit fishery-agent (and fishery-keeper@): LimitNOFILE=${units_descriptors}`;
      return [{ severity: limits.of === 'the agent' ? 'error' : 'warning', what, mend }];
    },
  ),
  defineCheck(
    {
      id: 'nr-open',
      title: 'the kernel allows no process as many descriptors as the units ask for',
      why: 'LimitNOFILE cannot be above `fs.nr_open`: agent and keeper are not even started.',
      remedy: 'Raise `fs.nr_open` to 1048576 (the default of the kernel) or more, or lower LimitNOFILE.',
      worst: 'error',
      isFixable: true,
    },
    ['limits'],
    ({ limits }): readonly Finding[] => {
      if (limits.nr_open >= units_descriptors) return [];
      const value = String(units_descriptors);
      const what = `fs.nr_open is ${limits.nr_open}; the units set LimitNOFILE=${value}`;
      return [
        {
          severity: 'error',
          what,
          mend: `sysctl -w fs.nr_open=${value}`,
          fix: { do: 'sysctl', key: 'fs/nr_open', value },
        },
      ];
    },
  ),
  defineCheck(
    {
      id: 'file-max',
      title: 'the host runs out of open files',
      why: 'Above `fs.file-max` every process but root’s gets ENFILE: proxies cannot open sockets any more.',
      remedy: 'Raise `fs.file-max`.',
      worst: 'error',
      isFixable: true,
    },
    ['limits', 'setup'],
    ({ limits, setup }) => {
      const needed = limits.files_open + setup.placeholders;
      if (needed < limits.file_max * files_full_ratio) return [];
      const value = String(needed * 2);
      const what = `fs.file-max is ${limits.file_max}; ${limits.files_open} files are open, and ${setup.placeholders} placeholders come on top`;
      return [
        {
          severity: 'error',
          what,
          mend: `sysctl -w fs.file-max=${value}`,
          fix: { do: 'sysctl', key: 'fs/file-max', value },
        },
      ];
    },
  ),
  defineCheck(
    {
      id: 'memory',
      title: 'placeholders need more memory than there is',
      why: 'A placeholder is about 4 KiB of kernel memory that cannot be swapped: 0.4 GB for 100,000.',
      remedy: 'Claim less, or give the machine more memory.',
      worst: 'warning',
    },
    ['memory', 'setup'],
    ({ memory, setup }) => {
      const needed = setup.placeholders * placeholder_bytes;
      if (needed <= memory.available_bytes / 2) return [];
      const mib = (bytes: number) => `${Math.round(bytes / 1_048_576)} MiB`;
      const what = `${setup.placeholders} placeholders need about ${mib(needed)}; ${mib(memory.available_bytes)} are available`;
      return [{ severity: 'warning', what, mend: 'lower claims or placeholders_max, or add memory' }];
    },
  ),
];
