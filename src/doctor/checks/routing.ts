import { isLocalRule } from '../../agent/host/host-state.ts';
import { foreignRouting } from '../../agent/status/standing-problems.ts';
import { defineCheck, type Check, type Finding } from '../check.ts';

const priorityOf = (rule: string): number => Number(/ priority (\d+)/.exec(rule)?.[1] ?? Infinity);
const flags = ['-4', '-6'] as const;

export const routingChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'no-local-table',
      title: 'no rule leads to the local table',
      why: 'The host does not find its own addresses any more: everything that is addressed to it is lost.',
      remedy: 'Add the rule of the kernel again: `ip rule add priority 0 lookup local`.',
      worst: 'fatal',
    },
    ['rules'],
    ({ rules }) =>
      flags.flatMap((flag): readonly Finding[] => {
        const ofFamily = [...rules.keys()].filter((rule) => rule.startsWith(flag));
        if (ofFamily.length === 0 || ofFamily.some(isLocalRule)) return [];
        const what = `"ip ${flag} rule" has no rule that leads to the local table`;
        return [{ severity: 'fatal', what, mend: `ip ${flag} rule add priority 0 lookup local` }];
      }),
  ),
  defineCheck(
    {
      id: 'rule-order',
      title: "the local table comes before fish's mark",
      why: "Fish's replies are addressed to the host itself: with the local table in front they are handed to the host's sockets, or answered with a reset, and never reach fish.",
      remedy:
        "The agent moves the rule; what put it back has to go. By hand: the mark's rule first, then `lookup local`.",
      worst: 'error',
    },
    ['rules', 'setup'],
    ({ rules, setup }) => {
      const { mark, markMask, routeTable, rulePriority } = setup.host;
      const fwmark = `fwmark 0x${mark.toString(16)}/0x${markMask.toString(16)} lookup ${routeTable}`;
      return flags.flatMap((flag): readonly Finding[] => {
        const ofFamily = [...rules.keys()].filter((rule) => rule.startsWith(flag));
        const ours = ofFamily.find((rule) => rule.endsWith(fwmark));
        const early = ofFamily.find((rule) => isLocalRule(rule) && ours && priorityOf(rule) <= priorityOf(ours));
        if (ours === undefined || early === undefined) return [];
        const what = `"${early.slice(3)}" comes before "${ours.slice(3)}"`;
        const mend = `ip ${flag} rule add priority ${rulePriority + 1} lookup local; ip ${flag} rule del priority ${priorityOf(early)} lookup local`;
        return [{ severity: 'error', what, mend }];
      });
    },
  ),
  defineCheck(
    {
      id: 'client-rule-order',
      title: 'what comes from clients goes to fish before the local table',
      why: "Even ARP for the host's own address on that interface goes unanswered (IPv6 seems to work): clients cannot reach their gateway.",
      remedy: "Put the rule on the client interface behind the one that leads to the local table; the agent's own is.",
      worst: 'error',
    },
    ['rules', 'setup'],
    ({ rules, setup }) =>
      flags.flatMap((flag) => {
        const ofFamily = [...rules.keys()].filter((rule) => rule.startsWith(flag));
        const local = Math.min(...ofFamily.filter(isLocalRule).map(priorityOf));
        return ofFamily.flatMap((rule): readonly Finding[] => {
          const name = / iif (\S+) /.exec(rule)?.[1];
          if (name === undefined || !rule.endsWith(`lookup ${setup.host.routeTable}`) || priorityOf(rule) > local)
            return [];
          const what = `"${rule.slice(3)}" comes before the local table`;
          const mend = `ip ${flag} rule del priority ${priorityOf(rule)} iif ${name}; name ${name} in client_interfaces, and the agent adds the rule where it belongs`;
          return [{ severity: 'error', what, mend }];
        });
      }),
  ),
  defineCheck(
    {
      id: 'routing-collision',
      title: "somebody else uses fish's table, priorities or mark",
      why: 'Packets of one would be taken by the other. The agent does not start beside it, and says so in its status when it comes later.',
      remedy: 'Remove the rule or route, or choose other `route_table`, `rule_priority`, `mark` and `mark_mask`.',
      worst: 'error',
    },
    ['rules', 'routes', 'setup'],
    ({ rules, routes, setup }) =>
      foreignRouting({ rules, routes }, { ...setup.host, fish: true }).map((what): Finding => {
        const [problem = what, mend = 'remove it'] = what.split(/: (?=remove it)/);
        return { severity: 'error', what: problem, mend };
      }),
  ),
  defineCheck(
    {
      id: 'no-blackhole',
      title: "nothing stands behind the TUN device in fish's table",
      why: "When the device goes, marked packets fall through to the local table and are answered with resets: every flow's peer is cut off.",
      remedy:
        'The agent keeps a blackhole route there; by hand: `ip route add blackhole default metric 9999 table 100`.',
      worst: 'error',
    },
    ['rules', 'routes', 'setup'],
    ({ rules, routes, setup }) =>
      flags.flatMap((flag): readonly Finding[] => {
        const table = setup.host.routeTable;
        const isUsed = [...rules.keys()].some((rule) => rule.startsWith(flag) && rule.endsWith(`lookup ${table}`));
        const isThere = [...routes.keys()].some((route) => route.startsWith(`${flag} blackhole default`));
        if (!isUsed || isThere) return [];
        const what = `table ${table} is used by a rule (${flag}), and has no blackhole route`;
        return [{ severity: 'error', what, mend: `ip ${flag} route add blackhole default metric 9999 table ${table}` }];
      }),
  ),
];
