import { describe, expect, it } from 'vitest';
import { agentSettings, hostSettings } from '../../../src/agent/settings/settings.ts';
import { explainRefusal } from '../../../src/agent/start/start-agent.ts';
import { flowAnswerOf, flowQueryOf } from '../../../src/agent/fish/flow-answers.ts';
import { flatStats } from '../../../src/agent/start/start-fish.ts';
import { resolveSettings } from '../../../src/ops/settings.ts';
import { FisheryError } from '../../../src/sdk/index.ts';
import { FlowAnswer, type FlowQuery } from '../../../src/wire/agent.ts';
import { address } from '../../support/fake-host.ts';
import { containing } from '../../support/matchers.ts';

const file = (values: Readonly<Record<string, unknown>>) => ({
  file: { file: 'fishery.yaml', section: 'agent', values },
});
const problemsOf = (values: Readonly<Record<string, unknown>>): readonly string[] => {
  const read = resolveSettings(agentSettings, file(values));
  return read.ok ? [] : read.problems;
};
const fish = { client_prefixes: ['100.64.0.0/10'], claims: [{ protocol: 'udp', ports: 64 }] };

describe('settings', () => {
  it('need nothing for a host of proxies', () => {
    const read = resolveSettings(agentSettings, {});
    // Nobody loses a connection because he has not heard of a setting.
    expect(read).toMatchObject({ ok: true, value: { keep: true } });
    expect(read.ok && hostSettings(read.value)).toEqual({
      fish: false,
      tun: 'fishtun',
      mark: 0x2a,
      markMask: 0xff,
      routeTable: 100,
      rulePriority: 10,
      uplinks: [],
      clientInterfaces: [],
      managePortRange: true,
      keepSource: true,
      steering: 'nftables',
      localClients: [],
      terminate: null,
      forwardsIpv6: false,
    });
  });

  it('take marks as people write them', () => {
    const read = resolveSettings(agentSettings, { flags: { mark: '0x2a00', mark_mask: '65280' } });
    expect(read.ok && [read.value.mark, read.value.mark_mask]).toEqual([0x2a00, 0xff00]);
  });

  it('of fish are complete with uplinks, clients and claims', () => {
    const read = resolveSettings(agentSettings, file({ uplinks: ['eth0'], fish }));
    expect(read.ok && read.value.fish).toMatchObject({
      enabled: true,
      holder: 'fish',
      session_ttl_s: 30,
      claims: [{ protocol: 'udp', mode: 'exclusive', ports: 64 }],
    });
    expect(problemsOf({ fish })).toEqual([containing('uplinks is required')]);
    expect(problemsOf({ fish, uplinks: [] })).toEqual([containing('fish needs to know where its packets leave')]);
    expect(problemsOf({ fish: { ...fish, enabled: false } })).toEqual([]);
  });

  it('of a terminator are complete with clients and claims of tcp', () => {
    const terminate = { claims: [{ protocol: 'tcp', mode: 'shared', ports: 128 }] };
    const read = resolveSettings(agentSettings, file({ client_interfaces: ['wg0'], terminate }));
    expect(read.ok && read.value.terminate).toMatchObject({ holder: 'terminator', idle_timeout_s: 7_440 });
    expect(read.ok && hostSettings(read.value).terminate).toEqual({
      port: 7_490,
      mark: 0x2b,
      routeTable: 101,
      paths: { rules: [], otherwise: 'terminate' },
    });
    expect(problemsOf({ terminate })).toEqual([containing('client_interfaces says where the connections come from')]);
    expect(problemsOf({ terminate: { ...terminate, enabled: false } })).toEqual([]);
    expect(read.ok && hostSettings({ ...read.value, terminate: undefined }).terminate).toBeNull();
  });

  it.each([
    [{ claims: [{ protocol: 'udp', ports: 64 }] }, 'only TCP is terminated'],
    [{ mark: 0x2a }, "mark: must be neither 0 nor fish's"],
    [{ mark: 0x100 }, 'mark: must not have bits outside mark_mask'],
    [{ route_table: 254 }, 'route_table: is a table of the kernel'],
    [{ route_table: 100 }, "route_table: is fish's"],
    [{ holder: 'fish' }, "holder: is fish's"],
    [{ paths: [{ clients: ['10.0.0.1/8'], path: 'terminate' }] }, 'has host bits set'],
    [{ paths: [{ ports: [{ first: 9, last: 8 }], path: 'packet' }] }, 'first must not be above last'],
  ])('of a terminator that do not go together are refused: %j', (over, problem) => {
    const terminate = { claims: [{ protocol: 'tcp' }], ...over };
    const problems = problemsOf({ uplinks: ['eth0'], client_interfaces: ['wg0'], fish, terminate });
    expect(problems.join('\n')).toContain(problem);
  });

  it('of paths name single ports or ranges', () => {
    const paths = [{ ports: [443, { first: 8_000, last: 8_099 }], path: 'terminate' }];
    const terminate = { claims: [{ protocol: 'tcp' }], paths, otherwise: 'packet' };
    const read = resolveSettings(agentSettings, file({ client_interfaces: ['wg0'], terminate }));
    expect(read.ok && hostSettings(read.value).terminate?.paths).toEqual({
      rules: [
        {
          clients: [],
          destinations: [],
          ports: [
            { first: 443, last: 443 },
            { first: 8_000, last: 8_099 },
          ],
          path: 'terminate',
        },
      ],
      otherwise: 'packet',
    });
  });

  it("of fish name clients on the host itself inside the clients' prefixes, and steering as it may be", () => {
    const local = (prefix: string) => ({ uplinks: ['eth0'], fish: { ...fish, local_clients: [prefix] } });
    expect(problemsOf(local('100.64.255.1/32'))).toEqual([]);
    expect(problemsOf(local('192.0.2.1/32'))).toEqual([containing('192.0.2.1/32 is not inside client_prefixes')]);
    expect(problemsOf(local('100.0.0.0/8'))).toEqual([containing('100.0.0.0/8 is not inside client_prefixes')]);
    expect(problemsOf({ steering: 'ebpf' })).toEqual([]);
    expect(problemsOf({ steering: 'iptables' })).toEqual([containing('steering')]);
  });

  it('of fish have segments fit through its links, or so many bytes, or anything', () => {
    const of = (more: object) => ({ uplinks: ['eth0'], fish: { ...fish, ...more } });
    const read = resolveSettings(agentSettings, file(of({})));
    expect(read.ok && read.value.fish?.mss_clamp).toBe('mtu');
    for (const mss_clamp of ['off', 'mtu', 88, 1_220, 65_535]) expect(problemsOf(of({ mss_clamp }))).toEqual([]);
    for (const mss_clamp of ['path', 87, 65_536, 1_220.5, true])
      expect(problemsOf(of({ mss_clamp }))).toEqual([containing('mss_clamp')]);
  });

  it.each([
    [{ mark_mask: 0 }, 'must have a bit'],
    [{ mark: 0 }, 'mark'],
    [{ mark: 0x100 }, 'must have a bit inside mark_mask'],
    [{ mark: 0x12a }, 'must not have bits outside mark_mask'],
    [{ route_table: 254 }, 'is a table of the kernel'],
    [{ tun: 'far too long a name' }, 'name of a network device'],
    [{ uplinks: ['eth0"; flush ruleset'] }, 'name of a network device'],
    [{ uplinks: ['..'] }, 'name of a network device'],
    [{ uplinks: ['lo'] }, 'lo has what this host sends itself'],
    [{ client_interfaces: ['lo'] }, 'lo has what this host sends itself'],
    [{ tun: 'lo' }, 'lo has what this host sends itself'],
    [{ uplinks: ['all'] }, 'words of sysctl for every device'],
    [{ client_interfaces: ['default'] }, 'words of sysctl for every device'],
    [{ tun: 'eth0', uplinks: ['eth0'] }, "eth0 is fish's own device"],
    [{ client_interfaces: ['fishtun'] }, "fishtun is fish's own device"],
    [{ uplinks: ['eth0'], client_interfaces: ['wg0', 'eth0'], fish }, 'eth0 is an uplink as well'],
    [{ broker: { socket: 'relative.sock' } }, 'must be an absolute path'],
    [{ broker: { socket: '' } }, 'must be an absolute path'],
    [{ broker: { socket: '/var/lib/fishery/../fishery/agent.sock' } }, 'is another file of the agent'],
    [{ broker: { socket: '/etc/fishery/agent.token' } }, 'is another file of the agent'],
    [{ state_dir: 'state' }, 'must be an absolute path'],
    [{ server: 'ftp://x' }, 'server'],
    [
      { uplinks: ['e'], fish: { ...fish, claims: [{ protocol: 'udp', family: 6 }] } },
      'a claim of family 6, and no client prefix is one of IPv6',
    ],
    [
      {
        uplinks: ['e'],
        fish: { ...fish, client_prefixes: ['2001:db8::/32'], claims: [{ protocol: 'udp', family: 4 }] },
      },
      'a claim of family 4, and no client prefix is one of IPv4',
    ],
    [{ uplinks: ['e'], fish: { ...fish, claims: [] } }, 'claims'],
  ])('%o are refused', (values, problem) => {
    const problems = problemsOf(values);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(problem);
  });
});

describe('a refusal of the server', () => {
  const explain = (code: string, status: number) =>
    explainRefusal(new FisheryError('said so', { code, status, retryable: false }), 'edge', '/etc/token');

  it.each([
    [
      'unauthorized',
      401,
      'the server does not know the token in /etc/token: have one made with role agent for machine "edge"',
    ],
    ['forbidden', 403, 'is not that of an agent of machine "edge"'],
    ['machine_not_found', 404, 'the server has no machine "edge"'],
    ['unreadable_answer', 404, "what answers at the server's address is not Fishery"],
    ['something_new', 409, 'said so'],
  ])('%s says what to do', (code, status, expected) => expect(explain(code, status)).toContain(expected));
});

describe('between the server and fish', () => {
  const query: FlowQuery = {
    id: 'q1',
    protocol: 'udp',
    address: '198.51.100.10',
    port: 9_001,
    remote_address: '203.0.113.1',
    remote_port: 53,
    at: '2026-01-31T14:03:07.000001Z',
  };

  it('questions are told in numbers', () => {
    expect(flowQueryOf(query)).toEqual({
      protocol: 'udp',
      address: '198.51.100.10',
      port: 9_001,
      remote: '203.0.113.1',
      remotePort: 53,
      at: 1_769_868_187_000_001,
    });
    expect(flowQueryOf({ ...query, remote_address: null, remote_port: null })).toMatchObject({
      remote: null,
      remotePort: null,
    });
  });

  it('answers fit the contract; a mapping toward everybody is told with the remote that was asked about', () => {
    const flow = {
      protocol: 'udp',
      client: address('100.64.0.2'),
      clientPort: 5_000,
      address: address('198.51.100.10'),
      port: 9_001,
      remote: null,
      remotePort: null,
      lease: 'lease-7',
      openedAt: 1_769_868_180_000_000,
      closedAt: null,
      ending: null,
    } as const;
    const log = {
      verdict: 'match',
      matches: [flow],
      truncated: false,
      coversSince: 1_769_868_000_000_000,
      coversThrough: 1_769_868_190_000_000,
      marginUs: 10_000,
    } as const;
    const answer = flowAnswerOf(query, log, 'fish');
    expect(FlowAnswer.parse(answer)).toEqual(answer);
    expect(answer.clock_margin_s).toBe(0.01);
    expect(answer.flows).toEqual([
      {
        holder: 'fish',
        lease: 'lease-7',
        client: '100.64.0.2',
        remote_address: '203.0.113.1',
        remote_port: 53,
        opened_at: '2026-01-31T14:03:00.000000Z',
        closed_at: null,
      },
    ]);
    expect(flowAnswerOf({ ...query, remote_address: null, remote_port: null }, log, 'fish').flows[0]).toMatchObject({
      remote_address: '0.0.0.0',
      remote_port: 0,
    });
  });

  it('its statistics are flat numbers', () => {
    const stats = { packetsOut: 3, drops: { noBlock: 2 }, flowsEnded: { idle: 1 }, blocks: [{ flows: 1 }] };
    expect(flatStats(stats as never)).toEqual({ packets_out: 3, drops_no_block: 2, flows_ended_idle: 1 });
  });
});
