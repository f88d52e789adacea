import { defineCheck, some, type Check, type Finding } from '../check.ts';

const statusOf = (socket: string): string => `curl --unix-socket ${socket} http://agent/status`;

/** Whoever passes through a folder, and whoever opens a socket. */
const passable = 0o111;
const openToAll = 0o666;

export const brokerChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'broker',
      title: 'slices are the machine’s to grant from, and nobody grants',
      why: 'The server grants nothing in slices whose allocator is the machine: without a broker they serve nobody.',
      remedy: 'Do what its status says; let the agent have a broker, or hand the slices over to the server.',
      worst: 'error',
    },
    ['agent', 'scope', 'broker'],
    ({ agent, scope, broker }): readonly Finding[] => {
      const { ownSlices } = scope;
      if (!broker.isEnabled) {
        if (ownSlices === 0 && !broker.hasTable) return [];
        const what =
          ownSlices > 0
            ? `${ownSlices} slices are for the broker of this machine to grant from, and broker.enabled is false`
            : 'a broker granted here before, and broker.enabled is false: what lives in its table is looked after by nobody';
        const mend = 'take broker.enabled: false out of the settings, or: fishery slices allocator SLICE server';
        return [{ severity: ownSlices > 0 ? 'error' : 'warning', what, mend }];
      }
      const status = agent.status?.broker;
      if (!status || status.problem === null) return [];
      const what = `the broker ${status.running ? 'says' : 'does not run'}: ${status.problem}`;
      return [{ severity: 'error', what, mend: statusOf(agent.socket) }];
    },
  ),
  defineCheck(
    {
      id: 'broker-socket',
      title: 'programs cannot reach the broker',
      why: 'Holders are known by who connects, so every user must be able to open the socket and pass through its folder. Without that they get EACCES or ENOENT.',
      remedy: 'Socket of mode 0666 in a folder of mode 0711; the agent makes both when it starts.',
      worst: 'error',
      isFixable: true,
    },
    ['agent', 'broker'],
    ({ agent, broker: { socket, folder, file } }): readonly Finding[] => {
      if (agent.status?.broker?.running !== true) return [];
      const restart = 'systemctl restart fishery-agent';
      if (file === null)
        return [{ severity: 'error', what: `${socket}: there is no such file, and a broker runs`, mend: restart }];
      if (!file.isSocket) return [{ severity: 'error', what: `${socket} is no socket`, mend: restart }];
      return [
        ...(folder === null ? [] : lacking(folder, passable, 'pass through')),
        ...lacking(file, openToAll, 'open'),
      ];
    },
  ),
  defineCheck(
    {
      id: 'broker-reports',
      title: 'the server is not told what the broker grants',
      why: 'Until it is, attribution is not complete, and a slice that drains is not given back.',
      remedy: 'See network, address (`server`) and token; it is told by itself as soon as that works.',
      worst: 'warning',
    },
    ['agent'],
    ({ agent }): readonly Finding[] => {
      const problem = agent.status?.broker?.report_problem ?? null;
      if (problem === null) return [];
      const told = agent.status?.broker?.told_through ?? null;
      const since = agent.status?.broker?.report_problem_since ?? null;
      const what = `${problem}${since === null ? '' : ` (since ${since})`}; told ${told === null ? 'nothing since the agent started' : `through ${told} of the broker’s log`}`;
      return [{ severity: 'warning', what, mend: statusOf(agent.socket) }];
    },
  ),
  defineCheck(
    {
      id: 'broker-lost',
      title: 'a table of the broker was put aside',
      why: 'It was damaged, or not what it had been: sessions and leases in it ended without a word, and the next time may be near.',
      remedy: 'See why (the disk, a restored image or snapshot; the agent’s log says what showed it), then delete it.',
      worst: 'warning',
    },
    ['broker'],
    ({ broker }) =>
      broker.lost.length === 0
        ? []
        : [
            {
              severity: 'warning',
              what: some(broker.lost),
              mend: `see the agent’s log for why, then: rm -r ${broker.lost.join(' ')}`,
            },
          ],
  ),
  defineCheck(
    {
      id: 'holder-cgroup',
      title: 'a proxy is known by a control group that this host does not have',
      why: 'The guard and the broker tell its processes by their group: with a name that is wrong, everything that the proxy sends is dropped, and the broker does not know it.',
      remedy: 'Start the unit, or correct it: `fishery holders put MACHINE NAME --kind proxy --cgroup PATH`.',
      worst: 'warning',
    },
    ['missingCgroups', 'setup'],
    ({ missingCgroups, setup }) =>
      missingCgroups.map(({ holder, cgroup }): Finding => {
        const mend = `fishery holders put ${setup.machine} ${holder} --kind proxy --cgroup PATH, where its unit is running under another name`;
        return { severity: 'warning', what: `holder ${holder} is control group ${cgroup}, which does not exist`, mend };
      }),
  ),
];

function lacking(
  { path, mode }: Readonly<{ path: string; mode: number }>,
  bits: number,
  to: string,
): readonly Finding[] {
  if ((mode & bits) === bits) return [];
  const octal = (each: number) => `0${each.toString(8)}`;
  const what = `${path} has mode ${octal(mode)}: not everybody can ${to} it`;
  const wanted = mode | bits;
  return [{ severity: 'error', what, mend: `chmod ${octal(wanted)} ${path}`, fix: { do: 'mode', path, mode: wanted } }];
}
