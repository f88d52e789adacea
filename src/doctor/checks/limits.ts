import { defineCheck, type Check, type Finding } from '../check.ts';

/** Connections, files, the TUN and whatever else a process has open, beside placeholders. */
const descriptors_reserved = 1_024;
/** Slab of one TCP socket with its inode, dentry and file. */
const placeholder_bytes = 4_096;
const files_full_ratio = 0.9;

export const limitChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'descriptor-limit',
      title: 'fewer descriptors are allowed than placeholders are wanted',
      why: 'Every placeholder is a descriptor: above the limit claims are refused with EMFILE, though their ports are free.',
      remedy: 'Set `LimitNOFILE=` in the unit, or claim less (`claims`, `placeholders_max`).',
      worst: 'error',
    },
    ['limits', 'setup'],
    ({ limits, setup }) => {
      const needed = setup.placeholders + descriptors_reserved;
      if (setup.placeholders === 0 || limits.descriptors_hard >= needed) return [];
      const what = `${limits.of} may have ${limits.descriptors_hard} descriptors open; the settings ask for ${setup.placeholders} placeholders and ${descriptors_reserved} others`;
      const mend = `systemctl edit fishery-agent: LimitNOFILE=${needed}`;
      return [{ severity: limits.of === 'the agent' ? 'error' : 'warning', what, mend }];
    },
  ),
  defineCheck(
    {
      id: 'nr-open',
      title: 'the kernel allows no process that many descriptors',
      why: 'LimitNOFILE cannot be above `fs.nr_open`: systemd cuts it down, or the unit does not start.',
      remedy: 'Raise `fs.nr_open`.',
      worst: 'error',
      isFixable: true,
    },
    ['limits', 'setup'],
    ({ limits, setup }): readonly Finding[] => {
      const needed = setup.placeholders + descriptors_reserved;
      if (limits.nr_open >= needed) return [];
      // The kernel rounds to whole words of its bitmap, and more does no harm.
      const value = String(Math.max(1_048_576, 2 ** Math.ceil(Math.log2(needed))));
      const what = `fs.nr_open is ${limits.nr_open}; ${needed} descriptors are needed`;
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
