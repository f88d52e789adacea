import { putHolderCommand } from '../../agent/leases/lease-places.ts';
import { defineCheck, some, type Check, type Finding } from '../check.ts';

export const agentChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'agent',
      title: 'the agent does not run, or is not well',
      why: 'Without it no lease becomes true and none ends, and the guard shuts when its time is over.',
      remedy: 'Start it, or do what its status says.',
      worst: 'error',
    },
    ['agent', 'nft'],
    ({ agent, nft }): readonly Finding[] => {
      if (agent.status !== null) {
        const { health } = agent;
        if (health === null) return [];
        const mend = `curl --unix-socket ${agent.socket} http://agent/status`;
        return [{ severity: 'error', what: `the agent says: ${health}`, mend }];
      }
      // Its table outlives it, on purpose; without one it never ran here, or was taken down.
      const wasHere = nft.chains.some(({ family, table }) => family === 'inet' && table === 'fishery');
      const what = `no agent answers at ${agent.socket}${agent.problem === null ? '' : ` (${agent.problem})`}`;
      return [{ severity: wasHere ? 'error' : 'info', what, mend: 'systemctl start fishery-agent' }];
    },
  ),
  defineCheck(
    {
      id: 'duplicate-agents',
      title: 'several agents run on this host',
      why: 'Two in one network namespace undo each other’s work (the second one is refused by a lock); of two that call themselves the same machine the server answers one, and the guard of the other stays shut.',
      remedy: 'Stop one of them; give containers with an agent of their own another machine name.',
      worst: 'error',
    },
    ['agentProcesses'],
    ({ agentProcesses }): readonly Finding[] => {
      const here = agentProcesses.filter(({ isHere }) => isHere);
      const tell = (processes: typeof agentProcesses) => some(processes.map(({ pid }) => `process ${pid}`));
      const groups = [...Map.groupBy(agentProcesses, ({ machine }) => machine)].filter(
        ([machine, members]) => machine !== null && members.length > 1,
      );
      return [
        ...(here.length > 1
          ? [
              {
                severity: 'error' as const,
                what: `${here.length} agents in this network namespace: ${tell(here)}`,
                mend: `kill ${here.at(-1)?.pid ?? ''}`,
              },
            ]
          : []),
        ...groups.flatMap(([machine, members]): readonly Finding[] =>
          members.every(({ isHere }) => isHere)
            ? []
            : [
                {
                  severity: 'error',
                  what: `${members.length} agents of machine ${machine ?? ''}: ${tell(members)}`,
                  mend: 'give each its own machine',
                },
              ],
        ),
      ];
    },
  ),
  defineCheck(
    {
      id: 'keeper',
      title: 'no keeper runs',
      why: 'Descriptors and flows live in the agent alone then: every established flow of fish breaks when the agent is restarted.',
      remedy: 'Start it: `systemctl enable --now fishery-keeper@0`.',
      worst: 'warning',
    },
    ['keepers', 'agent', 'setup'],
    ({ keepers, agent, setup }): readonly Finding[] => {
      const dead = keepers.filter(({ listens }) => !listens);
      const mend = 'systemctl enable --now fishery-keeper@0';
      if (keepers.some(({ listens }) => listens))
        return dead.map(({ path }) => ({ severity: 'warning', what: `nobody listens at ${path}`, mend }));
      if (!setup.host.fish) return [];
      const severity = agent.status?.fish === undefined || agent.status.fish === null ? 'info' : 'warning';
      return [{ severity, what: 'no keeper listens in /run/fishery for this network namespace', mend }];
    },
  ),
  defineCheck(
    {
      id: 'keeper-in-unit',
      title: 'a keeper lives in the unit of the agent',
      why: 'The agent has started it, so systemd counts it in: whatever is done to that unit as a whole (`systemctl kill`, a drop-in without `KillMode=process`, its memory limit, its OOM policy) lets go of every port and flow that the keeper has.',
      remedy: 'Give it a unit of its own, `fishery-keeper@N`, which the agent uses from then on.',
      worst: 'warning',
    },
    ['services', 'agent'],
    ({ services, agent: { status } }): readonly Finding[] => {
      const unit = status === null ? undefined : services.get(status.pid);
      if (status === null || unit === undefined) return [];
      return status.keepers
        .filter(({ pid }) => services.get(pid) === unit)
        .map(({ number, pid }) => ({
          severity: 'warning',
          what: `keeper ${number} (process ${pid}) is in ${unit}, as the agent is`,
          mend:
            `systemctl enable fishery-keeper@${number}; it begins at the next boot, or after "systemctl stop ${unit}" and ` +
            '"fishery agent down", which end the flows of fish, and "systemctl start" of both',
        }));
    },
  ),
  defineCheck(
    {
      id: 'server',
      title: 'the server does not answer, or does not know the token',
      why: 'Without answered keepalives the guard shuts within the horizon.',
      remedy: 'See network, address (`server`) and token.',
      worst: 'error',
    },
    ['server', 'files', 'setup'],
    ({ server, files, setup }): readonly Finding[] => {
      // Said by token-file.
      if (files.tokenFile === null || server.problem === null) return [];
      const { status, text } = server.problem;
      const mend =
        status === 401 || status === 403
          ? `fishery tokens create --name ${setup.machine} --role agent --machine ${setup.machine}, and put its secret into ${setup.tokenFile}`
          : status === 404
            ? `fishery machines create ${setup.machine}, or correct the setting machine`
            : `curl -sS ${server.url}/healthz`;
      return [{ severity: 'error', what: `${server.url}: ${text}`, mend }];
    },
  ),
  defineCheck(
    {
      id: 'leases-not-up',
      title: 'leases were refused by this host, or do not end',
      why: 'Their holders wait for them, or their ports for the next.',
      remedy: 'Each says why: mostly a stranger on the port, or a program that does not let go.',
      worst: 'warning',
    },
    ['agent'],
    ({ agent }) => {
      const stuck = (agent.status?.leases ?? []).filter(
        ({ phase, for_s }) => phase === 'refused' || (phase !== 'up' && for_s > 60),
      );
      if (stuck.length === 0) return [];
      const told = stuck.map(
        ({ lease, phase, block, detail }) => `${lease} (${block}) is ${phase}${detail === null ? '' : `: ${detail}`}`,
      );
      return [
        { severity: 'warning', what: some(told), mend: `curl --unix-socket ${agent.socket} http://agent/status` },
      ];
    },
  ),
  defineCheck(
    {
      id: 'fish-holder',
      title: 'the server does not know the holder of fish, or of the terminator',
      why: 'Leases are granted to holders that an operator declared: without its own neither has a port, and nothing of a client is passed on.',
      remedy:
        'Declare it: `fishery holders put MACHINE fish --kind fish`; a terminator has a user id besides (`--uid`).',
      worst: 'error',
    },
    ['scope', 'setup'],
    ({ scope, setup: { machine, claimants } }) =>
      // Nobody else knows all holders of the machine.
      scope.from !== 'the server'
        ? []
        : claimants.flatMap(({ holder, kind }): readonly Finding[] => {
            const found = scope.holders.find(({ name }) => name === holder);
            if (found?.kind === kind) return [];
            const command = putHolderCommand({ machine, holder, kind });
            if (!found)
              return [
                { severity: 'error', what: `machine ${machine} has no holder ${holder} (${kind})`, mend: command },
              ];
            const what = `holder ${holder} is of kind ${found.kind}, and the settings claim leases for it as ${kind}`;
            const mend = `fishery holders delete ${machine} ${holder}, then: ${command}; or name another in the settings`;
            return [{ severity: 'error', what, mend }];
          }),
  ),
  defineCheck(
    {
      id: 'holder-user',
      title: 'a proxy is known by a user that this host does not have',
      why: 'The guard tells proxies by their user id: a number that is nobody here is a typing mistake, mostly, and then everything that the proxy sends is dropped.',
      remedy: 'Correct it: `fishery holders put MACHINE NAME --kind proxy --uid UID`.',
      worst: 'warning',
    },
    ['scope', 'users', 'setup'],
    ({ scope, users, setup }) =>
      scope.holders.flatMap(({ name, kind, uid, cgroup }): readonly Finding[] => {
        if (kind !== 'proxy' || cgroup !== null || uid === null || users.has(uid)) return [];
        const mend = `fishery holders put ${setup.machine} ${name} --kind proxy --uid UID, or make the user: useradd --system --uid ${uid} ${name}`;
        return [{ severity: 'warning', what: `holder ${name} is user ${uid}, whom this host does not know`, mend }];
      }),
  ),
  defineCheck(
    {
      id: 'no-slices',
      title: 'it is not known what this host holds',
      why: 'Nothing about ports can be checked without its slices.',
      remedy: 'Let the server or the agent answer, or say `--slices 198.51.100.10:8192-10239`.',
      worst: 'info',
    },
    ['scope', 'setup'],
    ({ scope, setup }) => {
      if (scope.slices.length > 0) return [];
      const what =
        scope.from === 'nothing'
          ? 'neither server nor agent told of slices'
          : `${scope.from} knows of no slice of this machine`;
      const mend =
        scope.from === 'nothing' ? 'say --slices ADDRESS:FIRST-LAST' : `fishery slices assign POOL ${setup.machine}`;
      return [{ severity: 'info', what, mend }];
    },
  ),
];
