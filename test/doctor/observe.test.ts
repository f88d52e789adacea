import { describe, expect, it } from 'vitest';
import { parseReserved, withoutRanges } from '../../src/doctor/checks/sysctls.ts';
import { sysctlName } from '../../src/doctor/check.ts';
import { parseEntry } from '../../src/doctor/observe/conntrack.ts';
import { cgroup2In, usersIn } from '../../src/doctor/observe/host.ts';
import { linksFrom } from '../../src/doctor/observe/ip.ts';
import { parseSlice } from '../../src/doctor/observe/observer.ts';
import { agentArguments, readServices, serviceOf } from '../../src/doctor/observe/processes.ts';

describe('an entry of connection tracking', () => {
  const reply = (dst: string, dport: number) => `src=203.0.113.1 dst=${dst} sport=443 dport=${dport}`;
  const line = (back: string) =>
    `ipv4     2 tcp      6 117 SYN_SENT src=10.0.0.1 dst=203.0.113.1 sport=5 dport=443 [UNREPLIED] ${back} mark=0 use=2`;

  it('tells as whom the remote sees the sender', () => {
    expect(parseEntry(line(reply('198.51.100.10', 8_200)))).toEqual({
      protocol: 'tcp',
      sent: { address: '10.0.0.1', port: 5 },
      seen: { address: '198.51.100.10', port: 8_200 },
      remote: { address: '203.0.113.1', port: 443 },
    });
    expect(parseEntry(line(reply('10.0.0.1', 6)))).toMatchObject({ seen: { port: 6 } });
  });

  it('is none where nothing is translated, and where there is none', () => {
    expect(parseEntry(line(reply('10.0.0.1', 5)))).toBeUndefined();
    expect(parseEntry('')).toBeUndefined();
    expect(
      parseEntry('ipv4 2 icmp 1 9 src=10.0.0.1 dst=10.0.0.2 type=8 src=10.0.0.2 dst=10.0.0.1 type=0'),
    ).toBeUndefined();
  });
});

it('reads links with kind, state and canonical addresses', () => {
  const links = [
    { ifindex: 1, ifname: 'lo', flags: ['LOOPBACK', 'UP'], mtu: 65_536, txqlen: 1_000 },
    { ifindex: 2, ifname: 'fishtun', flags: [], mtu: 1_500, txqlen: 500, linkinfo: { info_kind: 'tun' }, xdp: {} },
  ];
  const addresses = [{ ifname: 'lo', addr_info: [{ local: '127.0.0.1' }, { local: '2001:DB8::0:1' }] }];
  expect(linksFrom(links, addresses)).toEqual([
    {
      ...{ name: 'lo', index: 1, kind: null, isUp: true, mtu: 65_536, queue: 1_000, hasXdp: false },
      addresses: ['127.0.0.1', '2001:db8::1'],
    },
    { name: 'fishtun', index: 2, kind: 'tun', isUp: false, mtu: 1_500, queue: 500, hasXdp: true, addresses: [] },
  ]);
});

it.each([
  [
    ['node', '/opt/fishery/bin/fishery.mjs', 'agent', '--config', 'x'],
    ['--config', 'x'],
  ],
  [['/usr/bin/node', 'src/bin/fishery.ts', 'agent', ''], ['']],
  [['node', 'fishery.mjs', 'agent', 'down'], undefined],
  [['node', 'fishery.mjs', 'server'], undefined],
  [['grep', 'fishery', 'agent.log'], undefined],
])('tells agents by their arguments: %j', (argv, rest) => {
  expect(agentArguments(argv)).toEqual(rest);
});

it('finds where cgroup2 is mounted, and users by number', () => {
  const mountinfo = '24 1 0:22 / /proc rw - proc proc rw\n30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n';
  expect(cgroup2In(mountinfo)).toBe('/sys/fs/cgroup');
  expect(cgroup2In('24 1 0:22 / /sys/fs/cgroup rw - cgroup cgroup rw\n')).toBeNull();
  expect(usersIn('root:x:0:0:root:/:/bin/sh\nweb:x:33:33::/:/bin/false\n')).toEqual(
    new Map([
      [0, 'root'],
      [33, 'web'],
    ]),
  );
});

it('reads slices as people write them', () => {
  expect(parseSlice('198.51.100.10:8192-10239')).toEqual({
    ok: true,
    value: { address: '198.51.100.10', ports: { first: 8_192, last: 10_239 } },
  });
  expect(parseSlice('[2001:DB8::1]:80')).toMatchObject({ value: { address: '2001:db8::1', ports: { last: 80 } } });
  for (const text of ['198.51.100.10', '198.51.100.10:9-8', '2001:db8::1:80', 'x:1-2', ''])
    expect(parseSlice(text)).toMatchObject({
      ok: false,
      error: expect.stringContaining('ADDRESS:FIRST-LAST') as string,
    });
});

it('takes ranges out of ranges', () => {
  expect(parseReserved('80,8000-8200, 9')).toEqual([
    { first: 80, last: 80 },
    { first: 8_000, last: 8_200 },
    { first: 9, last: 9 },
  ]);
  expect(parseReserved('')).toEqual([]);
  expect(
    withoutRanges(
      [{ first: 1, last: 10 }],
      [
        { first: 3, last: 4 },
        { first: 10, last: 12 },
      ],
    ),
  ).toEqual([
    { first: 1, last: 2 },
    { first: 5, last: 9 },
  ]);
});

it('writes sysctls as sysctl(8) does, devices with a dot included', () => {
  expect(sysctlName('net/ipv4/conf/eth0.5/forwarding')).toBe('net.ipv4.conf.eth0/5.forwarding');
});

it.each([
  ['system.slice/fishery-agent.service', 'fishery-agent.service'],
  ['system.slice/system-fishery\\x2dkeeper.slice/fishery-keeper@0.service', 'fishery-keeper@0.service'],
  ['system.slice/docker.service/container', 'docker.service'],
  ['user.slice/user-0.slice/session-1.scope', undefined],
  ['', undefined],
])('tells the service of cgroup %j', (cgroup, service) => {
  expect(serviceOf(cgroup)).toBe(service);
});

it('leaves processes out that are gone', () => {
  expect([...readServices([2 ** 22 + 1])]).toEqual([]);
});
