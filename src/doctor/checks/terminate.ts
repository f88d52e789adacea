import { defineCheck, type Check, type Finding } from '../check.ts';

/** Beside two for each connection: its log, and files of its own. */
const descriptors_reserved = 256;
const units_descriptors = 1_048_576;
const flags = ['-4', '-6'] as const;

/** What the terminating path needs of a host; silent where the settings do not name it. */
export const terminateChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'tproxy',
      title: 'the kernel cannot lead connections to the terminator',
      why: "Without nftables' `tproxy` the agent's table is refused as a whole, and nothing of a client is terminated.",
      remedy:
        'Load the modules (`modprobe nft_tproxy nf_tproxy_ipv4 nf_tproxy_ipv6`), or a kernel that has CONFIG_NFT_TPROXY.',
      worst: 'error',
    },
    ['tproxyRefusal', 'setup'],
    ({ tproxyRefusal, setup }) =>
      setup.host.terminate === null || tproxyRefusal === null
        ? []
        : [{ severity: 'error', what: tproxyRefusal, mend: 'modprobe nft_tproxy nf_tproxy_ipv4 nf_tproxy_ipv6' }],
  ),
  defineCheck(
    {
      id: 'transparent-sockets',
      title: 'no socket may be opened that has the address of another',
      why: 'The terminator accepts connections in the name of the origin (IP_TRANSPARENT), which takes CAP_NET_RAW or CAP_NET_ADMIN in its network namespace: without it, it does not begin.',
      remedy:
        'Give it CAP_NET_RAW: `AmbientCapabilities=` and `CapabilityBoundingSet=` of its unit, `--cap-add NET_RAW` for a container.',
      worst: 'error',
    },
    ['transparentSocket', 'setup'],
    ({ transparentSocket, setup }) => {
      if (setup.host.terminate === null || transparentSocket === null) return [];
      const mend = 'run it as root with CAP_NET_RAW (systemctl edit fishery-terminator, or --cap-add NET_RAW)';
      return [{ severity: 'error', what: `IP_TRANSPARENT: ${transparentSocket}`, mend }];
    },
  ),
  defineCheck(
    {
      id: 'terminate-routing',
      title: 'what is led to the terminator does not arrive there',
      why: "A rule on its mark leads clients' packets to a table in which every address is this host's. When one of both is missing they are forwarded to the origin past it, with the client's own address.",
      remedy: 'The agent puts both back while it runs; what takes them away has to go.',
      worst: 'error',
    },
    ['rules', 'terminateRoutes', 'nft', 'setup'],
    ({ rules, terminateRoutes, nft, setup: { host } }) => {
      const { terminate, markMask, clientInterfaces, rulePriority } = host;
      if (terminate === null) return [];
      const hex = (value: number) => `0x${value.toString(16)}`;
      const { routeTable: table, mark } = terminate;
      const isLed = nft.chains.some(
        (chain) => chain.family === 'inet' && chain.table === 'fishery' && chain.name === 'terminate',
      );
      return flags.flatMap((flag): readonly Finding[] => {
        const ruleOf = (name: string) => `iif ${name} fwmark ${hex(mark)}/${hex(markMask)} lookup ${table}`;
        const hasRule = (name: string) =>
          [...rules.keys()].some((rule) => rule.startsWith(flag) && rule.endsWith(ruleOf(name)));
        const hasRoute = [...terminateRoutes.keys()].some((route) => route.startsWith(`${flag} local default `));
        const isUsed = hasRoute || clientInterfaces.some(hasRule) || (isLed && flag === '-4');
        if (!isUsed) return [];
        const without = clientInterfaces.filter((name) => !hasRule(name));
        return [
          ...(hasRoute
            ? []
            : [
                {
                  severity: 'error' as const,
                  what: `table ${table} (${flag}) has no route that makes every address this host's`,
                  mend: `ip ${flag} route add local default dev lo table ${table}`,
                },
              ]),
          ...without.map((name) => ({
            severity: 'error' as const,
            what: `no rule (${flag}) leads what comes by ${name} with mark ${hex(mark)} to table ${table}`,
            mend: `ip ${flag} rule add priority ${rulePriority} ${ruleOf(name)}`,
          })),
        ];
      });
    },
  ),
  defineCheck(
    {
      id: 'terminator',
      title: 'the terminator does not run, or is of another version than the agent',
      why: 'Connections that are chosen for it are dropped while none is there. One that was not restarted after an upgrade goes on as it was, and may not understand the agent.',
      remedy:
        'Start it: `systemctl enable --now fishery-terminator`. Restarting it resets its connections: choose the time.',
      worst: 'error',
    },
    ['terminator', 'agent', 'setup'],
    ({ terminator, agent, setup }): readonly Finding[] => {
      if (setup.host.terminate === null) return [];
      const { process, problem, ownVersion } = terminator;
      const version = agent.status?.version ?? ownVersion;
      if (process === null) {
        const isForeign = problem?.includes('another language') === true;
        const what = problem ?? `nobody answers at ${terminator.path}`;
        const mend = isForeign
          ? 'systemctl restart fishery-terminator (resets its connections)'
          : 'systemctl enable --now fishery-terminator';
        // Without an agent nothing is led to it.
        return [{ severity: agent.status === null && !isForeign ? 'info' : 'error', what, mend }];
      }
      if (process.version === version) return [];
      const what = `the terminator (process ${process.pid}) is of version ${process.version}, the agent of ${version}`;
      return [{ severity: 'warning', what, mend: 'systemctl restart fishery-terminator (resets its connections)' }];
    },
  ),
  defineCheck(
    {
      id: 'terminator-descriptors',
      title: 'the terminator may have fewer connections than the settings say',
      why: 'Each takes two descriptors. What is beyond them is reset, at fewer connections than `connections_max`.',
      remedy:
        'Set `LimitNOFILE=` in its unit to twice `terminate.connections_max` and 256 more (`fs.nr_open` bounds it), or lower `connections_max`.',
      worst: 'warning',
    },
    ['terminator', 'limits', 'setup'],
    ({ terminator, limits, setup }): readonly Finding[] => {
      const { connections_max: wanted } = setup;
      if (wanted === null) return [];
      // One that the agent starts has what the agent has.
      const has = terminator.descriptors_hard ?? limits.descriptors_hard;
      const needs = 2 * wanted + descriptors_reserved;
      if (has >= needs) return [];
      const most = Math.max(0, Math.floor((has - descriptors_reserved) / 2));
      const who = terminator.descriptors_hard === null ? limits.of : 'the terminator';
      const what = `${who} may have ${has} descriptors open: enough for ${most} connections of ${wanted}`;
      const mend =
        needs <= units_descriptors
          ? `systemctl edit fishery-terminator: LimitNOFILE=${needs}`
          : `sysctl -w fs.nr_open=${needs}, and systemctl edit fishery-terminator: LimitNOFILE=${needs}`;
      return [{ severity: 'warning', what, mend }];
    },
  ),
];
