import { describe, expect, it } from 'vitest';
import { severities } from '../../src/doctor/check.ts';
import { checks } from '../../src/doctor/checks.ts';
import { diagnose } from '../../src/doctor/diagnose.ts';
import type { Facts } from '../../src/doctor/facts.ts';
import { describeFix } from '../../src/doctor/fix.ts';
import { err } from '../../src/net/result.ts';
import type { Address } from '../../src/net/address.ts';
import {
  address,
  aliveSet,
  base,
  guardChain,
  healthy,
  hostOfFish,
  link,
  nftOf,
  rule,
  seen,
  socket,
  statusOf,
} from '../support/doctor-facts.ts';

const withSysctl = (key: string, value: string): Partial<Facts> => ({
  sysctls: new Map([...healthy.sysctls, [key, value]]),
});
const withRule = (text: string, without?: string): Partial<Facts> => ({
  rules: new Map([...[...healthy.rules].filter(([each]) => each !== without), [text, 'foreign' as const]]),
});
const withSlice = (text: string): Partial<Facts> => ({
  scope: { ...healthy.scope, slices: [{ address: text as Address, ports: { first: 8_192, last: 10_239 } }] },
});
const saddr = (op: string, right: unknown) => ({
  match: { op, left: { payload: { protocol: 'ip', field: 'saddr' } }, right },
});
const dport = (right: unknown) => ({
  match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right },
});
const setMark = (value: unknown) => ({ mangle: { key: { meta: { key: 'mark' } }, value } });
const masquerade = { masquerade: null };
const ourKeep = { chain: { family: 'inet', table: 'fishery', name: 'keep', hook: 'postrouting', prio: -199 } };
const nat = base('postrouting', 100, { type: 'nat' });
const keeperAt = (number: number, pid: number) => ({
  ...{ number, pid, implementation: 'native' as const, placeholders: 0, descriptors_max: 1_000, problem: null },
});
const root = (mode: number) => ({ path: '/x', mode, uid: 0, isDirectory: true, bytes: 1 });
const noAgent = { agent: { ...healthy.agent, status: null } };

const withBroker = (more: object = {}): Partial<Facts> => ({
  agent: {
    ...healthy.agent,
    status: statusOf({
      broker: {
        ...{ running: true, problem: null, socket: '/x', leases: 0, granted: 0, ended: 0, refused: {}, connections: 0 },
        ...{ report_problem: null, report_problem_since: null, told_through: 1, told_s_ago: 1, untold: 0, rejected: 0 },
        ...more,
      },
    }),
  },
});

/** A host whose settings have a terminator, as an agent has set it up. */
const terminating = (more: Partial<Facts> = {}): Partial<Facts> => ({
  setup: {
    ...healthy.setup,
    connections_max: 16_384,
    host: {
      ...hostOfFish,
      terminate: { port: 7_490, mark: 0x2b, routeTable: 101, paths: { rules: [], otherwise: 'terminate' } },
    },
  },
  rules: new Map([...healthy.rules, ['-4 priority 10 iif hc fwmark 0x2b/0xff lookup 101', 'ours' as const]]),
  terminateRoutes: new Map([['-4 local default metric 1 table 101', 'ours']]),
  ...more,
});
const led = { chain: { family: 'inet', table: 'fishery', name: 'terminate', handle: 9 } };
const nobody = { ...healthy.terminator, process: null, problem: 'no terminator answers at /x', descriptors_hard: null };

/** Check, what is otherwise than on a healthy host, severity, what is said, and what `--fix` would do. */
type Row = readonly [id: string, more: Partial<Facts>, severity: string, says: RegExp, fix?: string];
const table: readonly Row[] = [
  ['kernel-version', { kernel: '6.2.0' }, 'fatal', /Linux 6\.2\.0/],
  [
    'steering',
    { steering: { setting: 'auto', chosen: { mode: 'nftables', why: 'no tcx' }, problem: null } },
    'info',
    /no tcx/,
  ],
  ['steering', { steering: { setting: 'ebpf', chosen: null, problem: 'does not work' } }, 'error', /does not work/],
  ['tools', { tools: { ip: null, nft: 'nft is not on this host' } }, 'fatal', /nft is not/],
  ['capabilities', { capabilities: new Set(['CAP_NET_ADMIN']) }, 'fatal', /lacks CAP_NET_RAW/],
  ['tun-device', { tunDevice: 'ENOENT' }, 'error', /ENOENT/],
  ['nftables-features', { rulesetRefusal: 'Could not process rule' }, 'fatal', /Could not/],
  [
    'tproxy',
    terminating({ tproxyRefusal: 'Could not process rule: tproxy' }),
    'error',
    /Could not process rule: tproxy/,
  ],
  ['transparent-sockets', terminating({ transparentSocket: 'EPERM' }), 'error', /IP_TRANSPARENT: EPERM/],
  ['terminate-routing', terminating({ terminateRoutes: new Map() }), 'error', /table 101 \(-4\) has no route/],
  ['terminate-routing', terminating({ rules: healthy.rules }), 'error', /no rule \(-4\) leads .* hc .* to table 101/],
  [
    'terminate-routing',
    terminating({ rules: healthy.rules, terminateRoutes: new Map(), nft: nftOf(led) }),
    'error',
    /has no route(.|\n)*no rule/,
  ],
  ['terminator', terminating({ terminator: nobody }), 'error', /no terminator answers/],
  ['terminator', terminating({ terminator: nobody, ...noAgent }), 'info', /no terminator answers/],
  [
    'terminator',
    terminating({
      terminator: { ...nobody, problem: 'it is of version 0.1, which speaks another language' },
      ...noAgent,
    }),
    'error',
    /another language/,
  ],
  [
    'terminator',
    terminating({ terminator: { ...healthy.terminator, process: { pid: 9, version: '0.0.1' } } }),
    'warning',
    /\(process 9\) is of version 0\.0\.1, the agent of 0$/,
  ],
  [
    'terminator-descriptors',
    terminating({ terminator: { ...healthy.terminator, descriptors_hard: 1_024 } }),
    'warning',
    /the terminator may have 1024 descriptors open: enough for 384 connections of 16384/,
  ],
  [
    'terminator-descriptors',
    terminating({ terminator: nobody, limits: { ...healthy.limits, descriptors_hard: 20_000 } }),
    'warning',
    /the agent may have 20000/,
  ],
  ['sock-destroy', { canDestroySockets: false }, 'warning', /not supported/],
  ['cgroup2', { cgroup2: null }, 'info', /no cgroup2/],
  [
    'cgroup2',
    {
      cgroup2: null,
      scope: { ...healthy.scope, holders: [{ name: 'h', kind: 'proxy', uid: null, cgroup: 'x.service' }] },
    },
    'error',
    /holders h are known/,
  ],
  [
    'sysctls-refused',
    { sysctlRefusal: 'EROFS', ...withSysctl('net/ipv4/ping_group_range', '1\t0') },
    'warning',
    /\(EROFS\): net\.ipv4\.ping_group_range = 0 0 \(echo identifiers cannot be held\)$/,
  ],
  [
    'sysctls-refused',
    { sysctlRefusal: 'EACCES', ...withSysctl('net/ipv4/tcp_fastopen', '2') },
    'error',
    /flows in shared blocks cannot be held/,
  ],
  ['sysctls-refused', { sysctlRefusal: 'EROFS', sysctls: new Map() }, 'error', /those of fishtun/],
  ['early-demux', withSysctl('net/ipv4/tcp_early_demux', '1'), 'error', /is 1, and has to be 0/],
  ['early-demux', { ...withSysctl('net/ipv4/tcp_early_demux', '1'), ...noAgent }, 'info', /is 1/],
  ['fastopen-client', withSysctl('net/ipv4/tcp_fastopen', '2'), 'error', /has to be 3/],
  [
    'fastopen-blackhole',
    withSysctl('net/ipv4/tcp_fastopen_blackhole_timeout_sec', '3600'),
    'warning',
    /3600/,
    'sysctl -w net.ipv4.tcp_fastopen_blackhole_timeout_sec="0"',
  ],
  ['ping-group-range', withSysctl('net/ipv4/ping_group_range', '1\t0'), 'error', /is 1 0, and has to be 0 0/],
  [
    'port-range-clamps',
    withSysctl('net/ipv4/ip_local_port_range', '9000 60999'),
    'error',
    /198\.51\.100\.10:8192-10239/,
  ],
  [
    'port-range-clamps',
    {
      ...withSysctl('net/ipv4/ip_local_port_range', '9000 60999'),
      setup: { ...healthy.setup, host: { ...hostOfFish, managePortRange: false } },
    },
    'error',
    /does not cover/,
    'sysctl -w net.ipv4.ip_local_port_range="8192 60999"',
  ],
  ['port-range-overlaps', {}, 'info', /1 of 1 slices/],
  [
    'reserved-ports',
    withSysctl('net/ipv4/ip_local_reserved_ports', '80,9000,10239-10250'),
    'error',
    /9000, 10239-10250/,
    'sysctl -w net.ipv4.ip_local_reserved_ports="80,10240-10250"',
  ],
  ['tw-reuse', withSysctl('net/ipv4/tcp_tw_reuse', '2'), 'info', /is 2/],
  [
    'tcp-timestamps',
    withSysctl('net/ipv4/tcp_timestamps', '0'),
    'warning',
    /is 0/,
    'sysctl -w net.ipv4.tcp_timestamps="1"',
  ],
  ['forwarding', withSysctl('net/ipv4/conf/h0/forwarding', '0'), 'error', /conf\.h0\.forwarding is 0/],
  ['tun-martians', withSysctl('net/ipv4/conf/fishtun/accept_local', '0'), 'error', /accept_local is 0/],
  [
    'marked-martians',
    {
      sysctls: new Map([
        ...healthy.sysctls,
        ['net/ipv4/conf/h0/rp_filter', '1'],
        ['net/ipv4/conf/all/src_valid_mark', '1'],
      ]),
    },
    'error',
    /conf\.h0\.rp_filter is 1, and has to be 2/,
  ],
  [
    'strict-rp-filter',
    withSysctl('net/ipv4/conf/h0/rp_filter', '1'),
    'warning',
    /h0 is strict/,
    'sysctl -w net.ipv4.conf.h0.rp_filter="2"',
  ],
  [
    'linkdown-routes',
    withSysctl('net/ipv6/conf/fishtun/ignore_routes_with_linkdown', '1'),
    'warning',
    /fishtun/,
    'sysctl -w net.ipv6.conf.fishtun.ignore_routes_with_linkdown="0"',
  ],
  [
    'accept-ra',
    {
      advertisedRoutes: ['h0'],
      sysctls: new Map([
        ['net/ipv6/conf/h0/accept_ra', '1'],
        ['net/ipv6/conf/h0/forwarding', '1'],
      ]),
    },
    'warning',
    /h0 forwards/,
    'sysctl -w net.ipv6.conf.h0.accept_ra="2"',
  ],
  [
    'ipv6-off',
    { ...withSlice('2001:db8::1'), ...withSysctl('net/ipv6/conf/all/disable_ipv6', '1') },
    'error',
    /1 slices/,
  ],
  ['ipv6-off', { ...withSlice('2001:db8::1'), sysctls: new Map() }, 'error', /has no IPv6/],
  ['no-local-table', withRule('-4 priority 13 lookup main', '-4 priority 11 lookup local'), 'fatal', /-4 rule/],
  ['rule-order', withRule('-4 priority 0 lookup local'), 'error', /comes before/],
  ['client-rule-order', withRule('-4 priority 5 iif hc lookup 100'), 'error', /iif hc/],
  ['routing-collision', withRule('-4 priority 500 fwmark 0x2a/0xff lookup 7'), 'error', /fish's mark/],
  ['no-blackhole', { routes: new Map() }, 'error', /no blackhole route/],
  ['guard-missing', { nft: nftOf() }, 'fatal', /198\.51\.100\.10/],
  [
    'guard-defeated',
    { nft: nftOf(...guardChain, aliveSet(0)) },
    'fatal',
    /no timeout/,
    'nft delete element inet fishery alive { 0 }',
  ],
  ['guard-shut', { nft: nftOf(...guardChain, aliveSet()) }, 'error', /is shut/],
  ['guard-shut', { nft: nftOf(...guardChain, aliveSet()), ...noAgent }, 'warning', /is shut/],
  [
    'guard-drops',
    { nft: nftOf({ counter: { family: 'inet', table: 'fishery', name: 'guard_uid', packets: 3 } }) },
    'info',
    /guard_uid 3/,
  ],
  ['nat', { nft: nftOf(nat, rule(masquerade)) }, 'error', /sees packets/],
  ['nat', { nft: nftOf(nat, rule({ xt: { type: 'target', name: 'MASQUERADE' } })) }, 'error', /sees packets/],
  ['nat', { nft: nftOf(nat, ourKeep, rule(masquerade)) }, 'info', /keeps it from them/],
  ['nat', { nft: nftOf(nat, rule({ return: null }), rule(masquerade)) }, 'warning', /may see/],
  [
    'wide-mark',
    { nft: nftOf(rule(dport({ set: [{ range: [9_000, 9_999] }] }), setMark(256))) },
    'warning',
    /9000-9999/,
  ],
  ['mark-collision', { nft: nftOf(rule(setMark(0x2a))) }, 'error', /the very mark/],
  ['mark-collision', { nft: nftOf(rule(setMark({ ct: { key: 'mark' } }))) }, 'warning', /bits of 0xff/],
  [
    'interval-sets',
    {
      nft: nftOf({
        set: { family: 'ip', table: 't', name: 's', flags: ['interval'], elem: Array.from({ length: 5_000 }, String) },
      }),
    },
    'warning',
    /5000 intervals/,
  ],
  ['late-postrouting', { nft: nftOf(base('postrouting', 301), rule(setMark(256))) }, 'warning', /priority 301/],
  ['flush-ruleset', { nftablesConf: '#!/usr/sbin/nft -f\nflush ruleset\n' }, 'error', /flush ruleset/],
  [
    'conntrack-rewrites',
    {
      conntrack: {
        ...healthy.conntrack,
        rewritten: [
          {
            protocol: 'tcp',
            sent: { address: '10.0.0.1', port: 5 },
            seen: { address, port: 8_200 },
            remote: { address: '203.0.113.1', port: 443 },
          },
        ],
      },
    },
    'error',
    /tcp 10\.0\.0\.1:5 as 198\.51\.100\.10:8200/,
  ],
  ['conntrack-full', { conntrack: { ...healthy.conntrack, count: 95 } }, 'warning', /95 of 100/],
  ['strangers', { sockets: [socket({ address: '::', state: 'listen', remote: '' })] }, 'error', /:::8200/],
  ['strangers', { sockets: [socket({ uid: 33 })] }, 'warning', /of user 33/],
  ['strangers', { sockets: Array.from({ length: 30 }, () => socket({ uid: 33 })) }, 'warning', /and 10 sockets more/],
  [
    'binding',
    { sockets: [socket({ bindsLate: false })] },
    'error',
    /lease-9 .* is bound late, and these bind explicitly/,
  ],
  [
    'elsewhere-explicit',
    { sockets: [socket({ address: '127.0.0.1', state: 'listen', bindsLate: false })] },
    'info',
    /127\.0\.0\.1:8200/,
  ],
  ['bound-to-device', { sockets: [socket({ device: 'lo' })] }, 'warning', /on lo/],
  ['packet-sockets', { packetSockets: [{ protocol: 3, who: 'tcpdump[5]' }] }, 'info', /tcpdump/],
  ['missing-device', { links: [link('h0')] }, 'error', /names hc/],
  ['missing-device', { links: [link('h0'), link('hc', { isUp: false })] }, 'error', /hc .* is down/],
  ['tun-name', { links: [link('fishtun', { kind: 'veth' })] }, 'error', /kind veth/],
  [
    'tun-mtu',
    { links: [link('h0', { mtu: 9_000 }), link('hc', { mtu: 1_420 }), link('fishtun', { kind: 'tun' })] },
    'warning',
    /of 1500, and hc, the narrowest link, one of 1420/,
    'ip link set dev fishtun mtu 1420',
  ],
  [
    'tun-mtu',
    { links: [link('h0', { mtu: 9_000 }), link('hc', { mtu: 9_000 }), link('fishtun', { kind: 'tun' })] },
    'warning',
    /of 1500, and h0, the narrowest link, one of 9000/,
    'ip link set dev fishtun mtu 9000',
  ],
  [
    'tun-queue',
    { links: [link('fishtun', { kind: 'tun', queue: 100 })] },
    'warning',
    /100 packets/,
    'ip link set dev fishtun txqueuelen 1000',
  ],
  ['address-on-link', { links: [link('h0', { addresses: [address] })] }, 'error', /on h0/],
  [
    'ingress-programs',
    { links: [link('h0', { hasXdp: true })], ingressFilters: ['h0'] },
    'info',
    /XDP program and filters/,
  ],
  ['descriptor-limit', { limits: { ...healthy.limits, descriptors_hard: 1_000 } }, 'error', /1000 descriptors/],
  [
    'nr-open',
    { limits: { ...healthy.limits, nr_open: 1_000 } },
    'error',
    /1000; the units/,
    'sysctl -w fs.nr_open="1048576"',
  ],
  ['file-max', { limits: { ...healthy.limits, file_max: 10_000 } }, 'error', /10000;/, 'sysctl -w fs.file-max="36768"'],
  ['memory', { memory: { available_bytes: 1e8 } }, 'warning', /64 MiB; 95 MiB/],
  ['clock-unsynchronised', { clock: { ...healthy.clock, isSynchronised: false } }, 'warning', /STA_UNSYNC/],
  ['clock-jumped', { clock: { ...healthy.clock, stateFromFuture_s: 90 } }, 'warning', /90 s from the future/],
  ['clock-skew', { server: { ...healthy.server, ahead_s: -30 } }, 'warning', /30 s behind ours/],
  ['sleeps', { clock: { ...healthy.clock, slept_s: 7 } }, 'info', /slept 7 s/],
  ['token-file', { files: { ...healthy.files, tokenFile: root(0o640) } }, 'error', /mode 0640/, 'chmod 0600 /x'],
  ['token-file', { files: { ...healthy.files, tokenFile: { ...root(0o600), uid: 5 } } }, 'error', /user 5/],
  ['token-file', { files: { ...healthy.files, tokenFile: null } }, 'error', /no such file/],
  ['token-file', { files: { ...healthy.files, tokenFile: { ...root(0o600), bytes: 0 } } }, 'error', /is empty/],
  ['state-dir', { files: { ...healthy.files, stateDir: root(0o770) } }, 'error', /mode 0770/, 'chmod 0750 /x'],
  [
    'state-dir',
    { files: { ...healthy.files, stateDir: { ...root(0o700), isDirectory: false } } },
    'error',
    /no folder/,
  ],
  ['run-dir', { files: { ...healthy.files, runDir: root(0o777) } }, 'error', /mode 0777/, 'chmod 0755 /x'],
  ['agent', { agent: { ...healthy.agent, health: 'the guard is shut' } }, 'error', /says: the guard/],
  ['agent', { ...noAgent, nft: nftOf() }, 'info', /no agent answers/],
  ['agent', noAgent, 'error', /no agent answers/],
  [
    'duplicate-agents',
    { agentProcesses: [1, 2].map((pid) => ({ pid, isHere: true, machine: null })) },
    'error',
    /process 1, process 2/,
  ],
  [
    'duplicate-agents',
    { agentProcesses: [1, 2].map((pid) => ({ pid, isHere: pid === 1, machine: 'edge' })) },
    'error',
    /agents of machine edge/,
  ],
  ['keeper', { keepers: [], ...noAgent }, 'info', /no keeper/],
  ['keeper', { keepers: [...healthy.keepers, { path: '/x', listens: false }] }, 'warning', /nobody listens at \/x/],
  [
    'keeper-in-unit',
    {
      agent: { ...healthy.agent, status: statusOf({ keepers: [keeperAt(0, 7), keeperAt(1, 8)] }) },
      services: new Map([
        [1, 'fishery-agent.service'],
        [7, 'fishery-keeper@0.service'],
        [8, 'fishery-agent.service'],
      ]),
    },
    'warning',
    /^keeper 1 \(process 8\) is in fishery-agent\.service/,
  ],
  ['server', { server: { ...healthy.server, problem: { status: 401, text: 'who?' } } }, 'error', /who\?/],
  [
    'leases-not-up',
    {
      agent: {
        ...healthy.agent,
        status: statusOf({
          leases: [{ lease: 'lease-9', holder: 'web', block: 'b', phase: 'ending', for_s: 99, detail: null }] as never,
        }),
      },
    },
    'warning',
    /lease-9 \(b\) is ending/,
  ],
  [
    'broker',
    { broker: { ...healthy.broker, isEnabled: false }, scope: { ...healthy.scope, ownSlices: 2 } },
    'error',
    /2 slices are .*broker\.enabled is false/,
  ],
  ['broker', { broker: { ...healthy.broker, isEnabled: false, hasTable: true } }, 'warning', /looked after by nobody/],
  ['broker', withBroker({ running: false, problem: 'EACCES' }), 'error', /does not run: EACCES/],
  ['broker', withBroker({ problem: 'its table is gone' }), 'error', /says: its table/],
  ['broker-socket', { ...withBroker(), broker: { ...healthy.broker, file: null } }, 'error', /no such file/],
  [
    'broker-socket',
    { ...withBroker(), broker: { ...healthy.broker, file: { ...root(0o666), isSocket: false } } },
    'error',
    /is no socket/,
  ],
  [
    'broker-socket',
    { ...withBroker(), broker: { ...healthy.broker, file: { ...root(0o600), isSocket: true } } },
    'error',
    /mode 0600/,
    'chmod 0666 /x',
  ],
  [
    'broker-socket',
    { ...withBroker(), broker: { ...healthy.broker, folder: root(0o700) } },
    'error',
    /pass through/,
    'chmod 0711 /x',
  ],
  [
    'broker-reports',
    withBroker({
      report_problem: 'ECONNREFUSED',
      report_problem_since: '2026-01-31T14:03:07.000000Z',
      told_through: 7,
    }),
    'warning',
    /ECONNREFUSED \(since 2026-01-31T14:03:07\.000000Z\); told through 7/,
  ],
  ['broker-reports', withBroker({ report_problem: 'ECONNREFUSED', told_through: null }), 'warning', /told nothing/],
  ['broker-lost', { broker: { ...healthy.broker, lost: ['/var/lib/fishery/broker.lost'] } }, 'warning', /broker\.lost/],
  [
    'holder-cgroup',
    { missingCgroups: [{ holder: 'web', cgroup: 'system.slice/web.service' }] },
    'warning',
    /web\.service, which does not/,
  ],
  ['fish-holder', { scope: { ...healthy.scope, holders: [] } }, 'error', /edge has no holder fish/],
  [
    'fish-holder',
    { setup: { ...healthy.setup, claimants: [{ holder: 'web', kind: 'terminator' }] } },
    'error',
    /web is of kind proxy/,
  ],
  ['holder-user', { users: new Map() }, 'warning', /user 1000/],
  ['no-slices', { scope: { ...healthy.scope, from: 'nothing', slices: [] } }, 'info', /neither/],
];

describe('checks', () => {
  it('of the terminating path are content where it is set up, and silent where the settings do not name it', async () => {
    const ids = ['tproxy', 'transparent-sockets', 'terminate-routing', 'terminator', 'terminator-descriptors'];
    const unnamed = { tproxyRefusal: 'x', transparentSocket: 'EPERM', terminator: nobody, nft: nftOf(led) };
    for (const more of [terminating({ nft: nftOf(led) }), unnamed])
      for (const check of checks.filter(({ id }) => ids.includes(id)))
        expect(check.run(seen({ ...healthy, ...more }))).toEqual({ is: 'looked', findings: [] });
  });

  it('are content with a healthy host, but for what is worth knowing', () => {
    const { results } = diagnose(checks, seen(healthy));
    const found = results.flatMap(({ check, findings }) => findings.map(({ severity }) => `${check.id} ${severity}`));
    expect(found).toEqual(['port-range-overlaps info']);
  });

  it.each(table.map((row, index) => ({ name: `${row[0]} (${index})`, row })))('$name', ({ row }) => {
    const [id, more, severity, says, fix] = row;
    const check = checks.find((each) => each.id === id);
    if (!check) throw new Error(`no check ${id}`);
    const [result] = diagnose([check], seen({ ...healthy, ...more })).results;
    expect(result?.unseen).toBeNull();
    expect(result?.findings.map(({ what }) => what).join('\n')).toMatch(says);
    expect(result?.severity).toBe(severity);
    expect(result?.findings.flatMap((finding) => (finding.fix ? [describeFix(finding.fix)] : []))).toEqual(
      fix === undefined ? [] : [fix],
    );
    for (const finding of result?.findings ?? []) {
      expect(severities.indexOf(finding.severity)).toBeLessThanOrEqual(severities.indexOf(check.worst));
      expect(finding.mend).not.toBe('');
      if (finding.fix) expect(check.isFixable).toBe(true);
    }
  });

  it('are all in the table, and those that can be mended with how', () => {
    expect(checks.map(({ id }) => id).filter((id) => !table.some(([each]) => each === id))).toEqual([]);
    const fixable = checks.filter(({ isFixable }) => isFixable).map(({ id }) => id);
    expect(fixable.filter((id) => !table.some(([each, , , , fix]) => each === id && fix !== undefined))).toEqual([]);
  });

  it('have names of their own, in the form of flags', () => {
    expect(new Set(checks.map(({ id }) => id)).size).toBe(checks.length);
    expect(checks.filter(({ id }) => !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(id))).toEqual([]);
  });

  it.each([
    ['a rule for other sources', saddr('==', { prefix: { addr: '172.17.0.0', len: 16 } })],
    ['a rule that excepts the pools', saddr('!=', { prefix: { addr: '198.51.100.0', len: 24 } })],
    ['a set of other sources', saddr('==', { set: ['10.0.0.1', { prefix: { addr: '10.1.0.0', len: 16 } }] })],
  ])('nat: is content with %s', (_what, match) => {
    const nft = nftOf(nat, rule(match, masquerade));
    expect(
      diagnose(checks, seen({ ...healthy, nft })).results.find(({ check }) => check.id === 'nat')?.findings,
    ).toEqual([]);
  });

  it('nat: sees a pool inside a wider source, and one behind a named set', () => {
    const named = { set: { family: 'ip', table: 't', name: 's', elem: [{ prefix: { addr: '198.51.0.0', len: 16 } }] } };
    for (const right of [{ prefix: { addr: '198.0.0.0', len: 8 } }, '@s']) {
      const nft = nftOf(named, nat, rule(saddr('==', right), masquerade));
      const found = diagnose(checks, seen({ ...healthy, nft })).results.find(({ check }) => check.id === 'nat');
      expect(found?.severity).toBe('error');
    }
  });

  it('mark-collision: lets others set bits of their own', () => {
    const value = { '|': [{ '&': [{ meta: { key: 'mark' } }, 0xffff_00ff] }, 0x100] };
    const nft = nftOf(rule(setMark(value)));
    expect(
      diagnose(checks, seen({ ...healthy, nft })).results.find(({ check }) => check.id === 'mark-collision')?.findings,
    ).toEqual([]);
  });

  it("strangers: knows fish's placeholders by their mark, and echo identifiers by fish's blocks", () => {
    const sockets = [socket({ uid: 0, mark: 0x12a })];
    expect(
      diagnose(checks, seen({ ...healthy, sockets })).results.find(({ check }) => check.id === 'strangers')?.findings,
    ).toEqual([]);
  });

  it('do not look where a fact is out of sight, and say why', () => {
    const observed = { ...seen(healthy), nft: err('nft is not on this host') };
    const { results, worst } = diagnose(checks, observed);
    const unseen = results.filter((result) => result.unseen !== null);
    expect(unseen.map((result) => result.unseen)).toEqual(unseen.map(() => 'nft is not on this host'));
    expect(unseen.map(({ check }) => check.id)).toEqual(expect.arrayContaining(['nat', 'guard-missing', 'strangers']));
    expect(worst).toBe('info');
  });
});
