import { defineCheck, type Check, type Finding } from '../check.ts';

/** IP_LOCAL_PORT_RANGE. */
const kernelMin = [6, 3] as const;

const isOlder = (release: string, [major, minor]: readonly [number, number]): boolean => {
  const [has = 0, hasMinor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return has < major || (has === major && hasMinor < minor);
};

const capabilitiesNeeded = ['CAP_NET_ADMIN', 'CAP_NET_RAW'] as const;

export const kernelChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'kernel-version',
      title: 'the kernel is too old',
      why: 'IP_LOCAL_PORT_RANGE came with Linux 6.3: without it nothing can bind late, and shared blocks do not work.',
      remedy: 'Boot Linux 6.3 or newer; 6.6 or newer can also steer by eBPF.',
      worst: 'fatal',
    },
    ['kernel'],
    ({ kernel }) => {
      if (isOlder(kernel, kernelMin))
        return [{ severity: 'fatal', what: `this is Linux ${kernel}`, mend: 'boot Linux 6.3 or newer' }];
      return [];
    },
  ),
  defineCheck(
    {
      id: 'tools',
      title: 'ip or nft is missing',
      why: 'The agent works with both.',
      remedy: 'Install iproute2 and nftables (1.0 or newer).',
      worst: 'fatal',
    },
    ['tools'],
    ({ tools }) =>
      (
        [
          ['ip', 'iproute2'],
          ['nft', 'nftables'],
        ] as const
      ).flatMap(([tool, debianPackage]) =>
        tools[tool] === null
          ? []
          : [{ severity: 'fatal' as const, what: tools[tool], mend: `apt-get install ${debianPackage}` }],
      ),
  ),
  defineCheck(
    {
      id: 'capabilities',
      title: 'the rights that the agent needs are missing',
      why: 'Without CAP_NET_ADMIN nothing can be set up, without CAP_NET_RAW marks cannot be set.',
      remedy: 'Run the agent (and this) as root, a container with `--cap-add NET_ADMIN --cap-add NET_RAW`.',
      worst: 'fatal',
    },
    ['capabilities'],
    ({ capabilities }) => {
      const missing = capabilitiesNeeded.filter((each) => !capabilities.has(each));
      return missing.length === 0
        ? []
        : [{ severity: 'fatal', what: `this process lacks ${missing.join(' and ')}`, mend: 'run it as root' }];
    },
  ),
  defineCheck(
    {
      id: 'tun-device',
      title: '/dev/net/tun cannot be opened',
      why: 'Fish sends and receives by a TUN device.',
      remedy: 'Load the module (`modprobe tun`), or pass the device into the container (`--device /dev/net/tun`).',
      worst: 'error',
    },
    ['tunDevice'],
    ({ tunDevice }) =>
      tunDevice === null
        ? []
        : [{ severity: 'error', what: `opening /dev/net/tun: ${tunDevice}`, mend: 'modprobe tun' }],
  ),
  defineCheck(
    {
      id: 'nftables-features',
      title: "this kernel or this nft does not take the agent's ruleset",
      why: 'The guard needs sets with timeouts, masked look-ups in concatenated sets, `meta skuid`; steering needs `socket` expressions and `notrack`.',
      remedy: 'A kernel with NF_TABLES, NFT_SOCKET, NFT_CT and the rest as modules or built in, and nft 1.0 or newer.',
      worst: 'fatal',
    },
    ['rulesetRefusal'],
    ({ rulesetRefusal }) =>
      rulesetRefusal === null
        ? []
        : [
            {
              severity: 'fatal',
              what: `nft refused it: ${rulesetRefusal}`,
              mend: 'zgrep -E "NF_TABLES|NFT_" /proc/config.gz shows what the kernel has; nft --version what nft is',
            },
          ],
  ),
  defineCheck(
    {
      id: 'steering',
      title: 'this host cannot steer by eBPF',
      why: 'Then nftables steers, and early demux is switched off for all sockets of the host: a look-up more for each arriving packet.',
      remedy: 'Linux 6.6 or newer with CAP_BPF; with `steering: auto` the agent takes nftables where it has to.',
      worst: 'error',
    },
    ['steering', 'setup'],
    ({ steering: { setting, chosen, problem }, setup }): readonly Finding[] => {
      if (problem !== null) return [{ severity: 'error', what: problem, mend: 'set steering to auto' }];
      if (!setup.host.fish || setting !== 'auto' || chosen?.mode !== 'nftables') return [];
      const mend = 'nothing, if that cost is fine; else boot Linux 6.6 or newer, and leave the agent CAP_BPF';
      return [{ severity: 'info', what: chosen.why, mend }];
    },
  ),
  defineCheck(
    {
      id: 'sock-destroy',
      title: 'the kernel cannot destroy sockets',
      why: 'A forced revoke cuts connections by SOCK_DESTROY; without INET_DIAG_DESTROY they last as long as their programs keep them, behind a guard that is shut.',
      remedy: 'Boot a kernel with INET_DIAG_DESTROY.',
      worst: 'warning',
    },
    ['canDestroySockets'],
    ({ canDestroySockets }) =>
      canDestroySockets
        ? []
        : [
            {
              severity: 'warning',
              what: 'SOCK_DESTROY is not supported here',
              mend: 'boot a kernel with CONFIG_INET_DIAG_DESTROY; until then end the programs',
            },
          ],
  ),
  defineCheck(
    {
      id: 'cgroup2',
      title: 'cgroup2 is not mounted',
      why: 'Holders that are known by their cgroup (a systemd service, a container) cannot be told apart: the guard knows users only.',
      remedy: 'Mount it (`mount -t cgroup2 none /sys/fs/cgroup`), or give holders a user id.',
      worst: 'error',
    },
    ['cgroup2', 'scope'],
    ({ cgroup2, scope }) => {
      if (cgroup2 !== null) return [];
      const needed = scope.holders.filter(({ cgroup }) => cgroup !== null).map(({ name }) => name);
      return [
        {
          severity: needed.length > 0 ? 'error' : 'info',
          what: `no cgroup2 is mounted${needed.length > 0 ? `, and holders ${needed.join(', ')} are known by theirs` : ''}`,
          mend: 'mount -t cgroup2 none /sys/fs/cgroup',
        },
      ];
    },
  ),
];
