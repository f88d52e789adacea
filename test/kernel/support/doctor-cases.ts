import { closeAll, noTun, over, set, sh, tun, uncover, type Case } from './doctor-breaking.ts';
import { agentCases } from './doctor-agent-cases.ts';
import type { DoctorLab } from './doctor-lab.ts';
import { terminateCases } from './doctor-terminate-cases.ts';
import { packetCases } from './doctor-packet-cases.ts';

const kernel: readonly Case[] = [
  {
    id: 'tools',
    how: 'nft cannot be run',
    break: sh('mount --bind /dev/null /usr/sbin/nft'),
    says: /nft/,
    severity: 'fatal',
    undo: sh('umount /usr/sbin/nft'),
  },
  {
    id: 'tun-device',
    how: 'no /dev/net/tun',
    break: sh('mount -t tmpfs none /dev/net'),
    says: /ENOENT/,
    severity: 'error',
    undo: sh('umount /dev/net'),
  },
  {
    id: 'nftables-features',
    how: 'nft without socket expressions',
    break:
      sh(`printf '#!/bin/sh\\nif grep -q "socket mark"; then echo "Could not process rule: No such file or directory" >&2; exit 1; fi\\n' > $WORK/fake.$$
      chmod 755 $WORK/fake.$$; mount --bind $WORK/fake.$$ /usr/sbin/nft`),
    says: /Could not process rule/,
    severity: 'fatal',
    undo: sh('umount /usr/sbin/nft'),
  },
  {
    id: 'cgroup2',
    how: 'not mounted',
    break: sh('umount /sys/fs/cgroup 2>/dev/null || true'),
    says: /no cgroup2 is mounted/,
    severity: 'info',
    undo: sh('mount -t cgroup2 none /sys/fs/cgroup'),
  },
];

const sysctls: readonly Case[] = [
  {
    id: 'early-demux',
    how: 'on',
    break: set('net.ipv4.tcp_early_demux', '1'),
    says: /tcp_early_demux is 1/,
    severity: 'info',
    settings: { steering: 'nftables' },
    undo: set('net.ipv4.tcp_early_demux', '0'),
  },
  {
    id: 'fastopen-client',
    how: 'bit 0 is off',
    break: set('net.ipv4.tcp_fastopen', '2'),
    says: /tcp_fastopen is 2, and has to be 3/,
    severity: 'info',
    undo: set('net.ipv4.tcp_fastopen', '1'),
  },
  {
    id: 'sysctls-refused',
    how: 'read-only',
    break: sh(
      'sysctl -qw net.ipv4.ping_group_range="1 0"; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys',
    ),
    says: /\(EROFS\): .*ping_group_range = 0 0 /,
    severity: 'error',
    undo: sh('umount /proc/sys; sysctl -qw net.ipv4.ping_group_range="0 0"'),
  },
  {
    id: 'fastopen-blackhole',
    how: 'an hour',
    break: set('net.ipv4.tcp_fastopen_blackhole_timeout_sec', '3600'),
    says: /is 3600/,
    severity: 'warning',
    fixes: true,
  },
  {
    id: 'ping-group-range',
    how: 'nobody',
    break: set('net.ipv4.ping_group_range', '1 0'),
    says: /ping_group_range is 1 0/,
    severity: 'info',
    undo: set('net.ipv4.ping_group_range', '0 0'),
  },
  {
    id: 'port-range-clamps',
    how: 'left to the agent',
    break: set('net.ipv4.ip_local_port_range', '32768 60999'),
    says: /does not cover 198.51.100.10:8192-10239/,
    severity: 'info',
    undo: set('net.ipv4.ip_local_port_range', '1024 65535'),
  },
  {
    id: 'port-range-clamps',
    how: 'not managed',
    break: set('net.ipv4.ip_local_port_range', '9000 60999'),
    says: /9000 60999, which does not cover/,
    severity: 'error',
    settings: { manage_port_range: false },
    fixes: true,
  },
  {
    id: 'port-range-overlaps',
    how: 'slices inside',
    break: set('net.ipv4.ip_local_port_range', '8000 60999'),
    says: /1 of 1 slices/,
    severity: 'info',
    undo: set('net.ipv4.ip_local_port_range', '32768 60999'),
  },
  {
    id: 'reserved-ports',
    how: 'across a border',
    break: set('net.ipv4.ip_local_reserved_ports', '80,8000-8200'),
    says: /reserves 8000-8200/,
    severity: 'error',
    fixes: true,
  },
  {
    id: 'tw-reuse',
    how: 'the default of the kernel',
    break: set('net.ipv4.tcp_tw_reuse', '2'),
    says: /tcp_tw_reuse is 2/,
    severity: 'info',
    undo: set('net.ipv4.tcp_tw_reuse', '1'),
  },
  {
    id: 'tcp-timestamps',
    how: 'off',
    break: set('net.ipv4.tcp_timestamps', '0'),
    says: /tcp_timestamps is 0/,
    severity: 'warning',
    fixes: true,
  },
  {
    id: 'forwarding',
    how: 'off on the client interface',
    break: sh('sysctl -qw net.ipv4.conf.h0.forwarding=1 net.ipv4.conf.hc.forwarding=0'),
    says: /conf\.hc\.forwarding is 0/,
    severity: 'info',
    undo: set('net.ipv4.conf.hc.forwarding', '1'),
  },
  {
    id: 'tun-martians',
    how: 'accept_local off',
    break: sh(`${tun}; sysctl -qw net.ipv4.conf.fishtun.rp_filter=0 net.ipv4.conf.fishtun.accept_local=0`),
    says: /fishtun\.accept_local is 0/,
    severity: 'info',
    undo: noTun,
  },
  {
    id: 'marked-martians',
    how: 'as a VPN leaves it',
    break: sh('sysctl -qw net.ipv4.conf.h0.rp_filter=1 net.ipv4.conf.all.src_valid_mark=1'),
    says: /conf\.h0\.rp_filter is 1, and has to be 2/,
    severity: 'info',
    undo: sh('sysctl -qw net.ipv4.conf.h0.rp_filter=0 net.ipv4.conf.all.src_valid_mark=0'),
  },
  {
    id: 'strict-rp-filter',
    how: 'on the uplink',
    break: set('net.ipv4.conf.h0.rp_filter', '1'),
    says: /on h0 is strict/,
    severity: 'warning',
    fixes: true,
  },
  {
    id: 'linkdown-routes',
    how: 'ignored everywhere',
    break: set('net.ipv4.conf.all.ignore_routes_with_linkdown', '1'),
    says: /all\.ignore_routes_with_linkdown is 1/,
    severity: 'warning',
    fixes: true,
  },
  {
    id: 'accept-ra',
    how: 'forwarding, and an advertised route',
    break: sh(`ip -6 route add default via 2001:db8:1::2 dev h0 proto ra metric 5
      sysctl -qw net.ipv6.conf.h0.accept_ra=1 net.ipv6.conf.h0.forwarding=1`),
    says: /accept_ra is 1/,
    severity: 'warning',
    fixes: true,
  },
  {
    id: 'ipv6-off',
    how: 'switched off',
    break: set('net.ipv6.conf.all.disable_ipv6', '1'),
    says: /disable_ipv6 is 1, and 1 slices/,
    severity: 'error',
    slices: ['[2001:db8:a::1]:8192-10239'],
    // The way back is nobody's but the administrator's.
    undo: set('net.ipv6.conf.all.disable_ipv6', '0'),
  },
];

const bind =
  (address: string, more: object = {}) =>
  (d: DoctorLab) =>
    d.ask({ op: 'bind', address, port: 8_200, protocol: 'tcp', listen: true, ...more });

const sockets: readonly Case[] = [
  {
    id: 'strangers',
    how: 'a listener on all addresses',
    break: bind('0.0.0.0'),
    says: /tcp 0\.0\.0\.0:8200 \(listen\) of user 0: \w+\[\d+\]/,
    severity: 'error',
    undo: closeAll,
  },
  {
    id: 'strangers',
    how: 'a socket on the address of the slice',
    break: async (d) => {
      d.shell('ip address add 198.51.100.10/32 dev lo');
      await bind('198.51.100.10', { protocol: 'udp', listen: false })(d);
    },
    says: /udp 198\.51\.100\.10:8200/,
    severity: 'warning',
    undo: async (d) => {
      await closeAll(d);
      d.shell('ip address del 198.51.100.10/32 dev lo');
    },
  },
  {
    id: 'elsewhere-explicit',
    how: 'a listener on another address',
    break: bind('192.0.2.1'),
    says: /192\.0\.2\.1:8200/,
    severity: 'info',
    undo: closeAll,
  },
  {
    id: 'bound-to-device',
    how: 'lo',
    break: async (d) => {
      d.shell('ip address add 198.51.100.10/32 dev lo');
      await bind('198.51.100.10', { device: 'lo' })(d);
    },
    says: /198\.51\.100\.10:8200.* on lo/,
    severity: 'warning',
    undo: async (d) => {
      await closeAll(d);
      d.shell('ip address del 198.51.100.10/32 dev lo');
    },
  },
  {
    id: 'packet-sockets',
    how: 'one',
    break: (d) => d.ask({ op: 'packet-socket' }),
    says: /\w+\[\d+\]/,
    severity: 'info',
    undo: closeAll,
  },
];

const devices: readonly Case[] = [
  {
    id: 'missing-device',
    how: 'down',
    break: sh('ip link set hc down'),
    says: /hc \(client_interfaces\) is down/,
    severity: 'error',
    undo: sh('ip link set hc up'),
  },
  {
    id: 'tun-name',
    how: 'a cable of that name',
    break: sh('ip link add fishtun type veth peer name other'),
    says: /fishtun is a device of kind veth/,
    severity: 'error',
    undo: noTun,
  },
  {
    id: 'tun-mtu',
    how: 'smaller than the uplink',
    break: sh(`${tun}; ip link set fishtun mtu 1400`),
    says: /MTU of 1400.*1500/,
    severity: 'warning',
    fixes: true,
    undo: noTun,
  },
  {
    id: 'tun-queue',
    how: 'a hundred packets',
    break: sh(`${tun}; ip link set fishtun txqueuelen 100`),
    says: /queue of 100/,
    severity: 'warning',
    fixes: true,
    undo: noTun,
  },
  {
    id: 'address-on-link',
    how: 'on the uplink',
    break: sh('ip address add 198.51.100.10/32 dev h0'),
    says: /198\.51\.100\.10 on h0/,
    severity: 'error',
    undo: sh('ip address del 198.51.100.10/32 dev h0'),
  },
  {
    id: 'ingress-programs',
    how: 'a filter at tc ingress',
    break: sh('tc qdisc add dev h0 clsact; tc filter add dev h0 ingress protocol ip u32 match u32 0 0 flowid 1:1'),
    says: /h0 has filters at tc ingress/,
    severity: 'info',
    undo: sh('tc qdisc del dev h0 clsact'),
  },
];

const limits: readonly Case[] = [
  {
    id: 'nr-open',
    how: 'a thousand',
    break: over('/proc/sys/fs/nr_open', '1000'),
    says: /fs\.nr_open is 1000/,
    severity: 'error',
    fixes: true,
    undo: uncover('/proc/sys/fs/nr_open'),
  },
  {
    id: 'file-max',
    how: 'a hundred',
    break: over('/proc/sys/fs/file-max', '100'),
    says: /fs\.file-max is 100;/,
    severity: 'error',
    fixes: true,
    undo: uncover('/proc/sys/fs/file-max'),
  },
  {
    id: 'memory',
    how: 'a megabyte',
    break: over('/proc/meminfo', 'MemTotal: 9000 kB\\nMemAvailable: 1000 kB\\n'),
    says: /1 MiB are available/,
    severity: 'warning',
    undo: uncover('/proc/meminfo'),
  },
];

const hour = 3_600_000;
const clocks: readonly Case[] = [
  {
    id: 'clock-jumped',
    how: 'a file from tomorrow',
    break: (d) => d.shell(`mkdir -p ${d.lab.folder}/state; touch -d '+1 hour' ${d.lab.folder}/state/later`),
    says: /3[56]\d\d s from the future/,
    severity: 'warning',
    undo: (d) => d.shell(`rm ${d.lab.folder}/state/later`),
  },
  {
    id: 'clock-skew',
    how: "the server's clock is an hour ahead",
    break: (d) =>
      d.ask({ op: 'serve', at: 7_999, date: new Date(Date.now() + hour).toUTCString(), answers: { '/healthz': '{}' } }),
    says: /3[56]\d\d s ahead of ours/,
    severity: 'warning',
    settings: { server: 'http://127.0.0.1:7999' },
    undo: closeAll,
  },
];

const files: readonly Case[] = [
  {
    id: 'token-file',
    how: 'readable by all',
    break: (d) => d.shell(`chmod 644 ${d.lab.folder}/token`),
    says: /has mode 0644/,
    severity: 'error',
    fixes: true,
  },
  {
    id: 'state-dir',
    how: 'writable by all',
    break: (d) => d.shell(`mkdir -p ${d.lab.folder}/state; chmod 777 ${d.lab.folder}/state`),
    says: /has mode 0777/,
    severity: 'error',
    fixes: true,
  },
  {
    id: 'run-dir',
    how: 'writable by all',
    break: sh('mkdir -p /run/fishery; mount -t tmpfs -o mode=777 none /run/fishery'),
    says: /has mode 0777/,
    severity: 'error',
    fixes: true,
    undo: sh('umount /run/fishery'),
  },
];

/** The agent as it says that a broker runs. */
const withBroker =
  (more: object = {}) =>
  (d: DoctorLab) =>
    d.ask({
      op: 'serve',
      at: `${d.lab.folder}/state/agent.sock`,
      answers: {
        '/status': JSON.stringify({
          broker: { running: true, problem: null, report_problem: null, told_through: 7, ...more },
        }),
        '/healthz': 'ok',
      },
    });

const broker: readonly Case[] = [
  {
    id: 'broker',
    how: 'switched off where one was',
    break: (d) => d.shell(`mkdir -p ${d.lab.folder}/state/broker`),
    says: /broker\.enabled is false/,
    severity: 'warning',
    settings: { broker: { enabled: false } },
    undo: (d) => d.shell(`rmdir ${d.lab.folder}/state/broker`),
  },
  {
    id: 'broker',
    how: 'it cannot be started',
    break: withBroker({ running: false, problem: 'ENOSPC' }),
    says: /does not run: ENOSPC/,
    severity: 'error',
    undo: closeAll,
  },
  {
    id: 'broker-socket',
    how: 'not there',
    break: withBroker(),
    says: /broker\.sock: there is no such file/,
    severity: 'error',
    settings: { broker: { socket: '/run/nowhere/broker.sock' } },
    undo: closeAll,
  },
  {
    id: 'broker-socket',
    how: "root's alone",
    break: async (d) => {
      d.shell('mkdir -p /run/fishery; mount -t tmpfs -o mode=700 none /run/fishery');
      await withBroker()(d);
      await d.ask({ op: 'serve', at: '/run/fishery/broker.sock', answers: {} });
      d.shell('chmod 600 /run/fishery/broker.sock');
    },
    says: /\/run\/fishery has mode 0700.*\n.*broker\.sock has mode 0600/,
    severity: 'error',
    fixes: true,
    undo: async (d) => {
      await closeAll(d);
      d.shell('umount /run/fishery');
    },
  },
  {
    id: 'broker-reports',
    how: 'nobody there',
    break: withBroker({ report_problem: 'ECONNREFUSED' }),
    says: /ECONNREFUSED; told through 7/,
    severity: 'warning',
    undo: closeAll,
  },
  {
    id: 'broker-lost',
    how: 'twice',
    break: (d) => d.shell(`mkdir -p ${d.lab.folder}/state/broker.lost ${d.lab.folder}/state/broker.lost-2`),
    says: /broker\.lost, .*broker\.lost-2/,
    severity: 'warning',
    undo: (d) => d.shell(`rmdir ${d.lab.folder}/state/broker.lost*`),
  },
  {
    id: 'holder-cgroup',
    how: 'nothing has that name',
    break: (d) => d.lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', cgroup: 'no.slice/web.service' }),
    says: /holder web is control group no\.slice\/web\.service/,
    severity: 'warning',
    undo: (d) => d.lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: 1 }),
  },
];

export const cases: readonly Case[] = [
  ...kernel,
  ...sysctls,
  ...packetCases,
  ...sockets,
  ...devices,
  ...limits,
  ...clocks,
  ...files,
  ...agentCases,
  ...terminateCases,
  ...broker,
];
