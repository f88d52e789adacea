import { guard, nft, noTable, sh, type Case } from './doctor-breaking.ts';

/** What befalls packets on their way: policy routing, nftables, connection tracking. */
const ruleOfFish = 'fwmark 0x2a/0xff lookup 100';
const routing: readonly Case[] = [
  {
    id: 'no-local-table',
    how: 'its rule was deleted',
    break: sh('ip rule del priority 0'),
    says: /-4 rule/,
    severity: 'fatal',
    undo: sh('ip rule add priority 0 lookup local'),
  },
  {
    id: 'rule-order',
    how: 'the rule of the kernel is still in front',
    break: sh(`ip rule add priority 10 ${ruleOfFish}`),
    says: /"priority 0 lookup local" comes before/,
    severity: 'error',
    undo: sh('ip rule del priority 10'),
  },
  {
    id: 'client-rule-order',
    how: 'in front of the local table',
    break: sh(`ip rule add priority 11 lookup local; ip rule del priority 0; ip rule add priority 5 iif hc lookup 100`),
    says: /iif hc lookup 100" comes before/,
    severity: 'error',
    undo: sh(`ip rule del priority 5; ip rule add priority 0 lookup local; ip rule del priority 11`),
  },
  {
    id: 'routing-collision',
    how: "fish's mark",
    break: sh('ip rule add priority 500 fwmark 0x2a lookup 200'),
    says: /matches packets with fish's mark/,
    severity: 'error',
    undo: sh('ip rule del priority 500'),
  },
  {
    id: 'routing-collision',
    how: "a route in fish's table",
    break: sh('ip route add 10.0.0.0/8 dev h0 table 100'),
    says: /route is in fish's routing table/,
    severity: 'error',
    undo: sh('ip route flush table 100'),
  },
  {
    id: 'no-blackhole',
    how: 'a rule to an empty table',
    break: sh(`ip rule add priority 10 ${ruleOfFish}`),
    says: /table 100 is used by a rule \(-4\)/,
    severity: 'error',
    undo: sh('ip rule del priority 10'),
  },
];

const nftables: readonly Case[] = [
  {
    id: 'guard-missing',
    how: 'an address without a table',
    break: sh('ip address add 198.51.100.10/32 dev lo'),
    says: /198\.51\.100\.10 on this host/,
    severity: 'fatal',
    undo: sh('ip address del 198.51.100.10/32 dev lo'),
  },
  {
    id: 'guard-defeated',
    how: 'a plain add element',
    break: nft(guard('set alive {\n type mark; flags timeout; elements = { 0 }\n }')),
    says: /has no timeout/,
    severity: 'fatal',
    fixes: true,
    undo: noTable('inet fishery'),
  },
  {
    id: 'guard-shut',
    how: 'the element ran out',
    break: nft(guard('set alive {\n type mark; flags timeout\n }')),
    says: /the guard is shut/,
    severity: 'warning',
    undo: noTable('inet fishery'),
  },
  {
    id: 'guard-drops',
    how: 'counted',
    break: nft(guard('counter guard_uid {\n packets 3 bytes 180\n }')),
    says: /guard_uid 3/,
    severity: 'info',
    undo: noTable('inet fishery'),
  },
  {
    id: 'nat',
    how: 'masquerade on the uplink',
    break: nft(
      'table ip nat {\n chain post {\n type nat hook postrouting priority srcnat\n oifname "h0" masquerade\n }\n }',
    ),
    says: /sees packets from 198\.51\.100\.0\/24/,
    severity: 'error',
    undo: nft(`delete table ip nat
      table ip nat {\n chain post {\n type nat hook postrouting priority srcnat
      ip saddr != 198.51.100.0/24 oifname "h0" masquerade\n ip saddr 172.17.0.0/16 masquerade\n }\n }`),
  },
  {
    id: 'nat',
    how: 'behind a mark',
    break: nft('flush table ip nat\ntable ip nat {\n chain post {\n meta mark & 0x4000 == 0x4000 masquerade\n }\n }'),
    says: /may see packets/,
    severity: 'warning',
    undo: noTable('ip nat'),
  },
  {
    id: 'wide-mark',
    how: 'a thousand ports',
    break: nft(
      'table ip m {\n chain pre {\n type filter hook prerouting priority mangle\n tcp dport 9000-9999 meta mark set 0x100\n }\n }',
    ),
    says: /9000-9999/,
    severity: 'warning',
    undo: noTable('ip m'),
  },
  {
    id: 'mark-collision',
    how: "fish's very mark",
    break: nft(
      'table ip m {\n chain pre {\n type filter hook prerouting priority mangle\n tcp dport 80 meta mark set meta mark & 0xffffff00 | 0x2a\n }\n }',
    ),
    says: /the very mark that is fish's/,
    severity: 'error',
    undo: nft(
      'flush table ip m\ntable ip m {\n chain pre {\n tcp dport 80 meta mark set meta mark & 0xffff00ff | 0x100\n }\n }',
    ),
  },
  {
    id: 'interval-sets',
    how: 'six thousand intervals',
    break: nft(
      `table ip big {\n set s {\n type ipv4_addr; flags interval\n elements = { ${Array.from(
        { length: 6_000 },
        (_, index) => `10.${index >> 8}.${index & 255}.0/25`,
      ).join(', ')} }\n }\n }`,
    ),
    says: /6000 intervals/,
    severity: 'warning',
    undo: noTable('ip big'),
  },
  {
    id: 'late-postrouting',
    how: 'a mark behind the guard',
    break: nft('table ip l {\n chain post {\n type filter hook postrouting priority 310\n meta mark set 0x100\n }\n }'),
    says: /priority 310/,
    severity: 'warning',
    undo: noTable('ip l'),
  },
  {
    id: 'flush-ruleset',
    how: 'as Debian ships it',
    break: sh(`mkdir -p $WORK/etc.$$; printf '#!/usr/sbin/nft -f\\n\\nflush ruleset\\n' > $WORK/etc.$$/nftables.conf
      test -e /etc/nftables.conf && mount --bind $WORK/etc.$$/nftables.conf /etc/nftables.conf`),
    says: /flush ruleset/,
    severity: 'error',
    undo: sh('mount --bind /dev/null /etc/nftables.conf'),
  },
];

const conntrack: readonly Case[] = [
  {
    id: 'conntrack-rewrites',
    how: 'a datagram through source NAT',
    break: sh(
      `nft -f - ; echo x | timeout 2 bash -c 'cat > /dev/udp/203.0.113.1/81'`,
      'table ip nat {\n chain post {\n type nat hook postrouting priority srcnat\n udp dport 81 snat to 198.51.100.10:8192-8200\n }\n }',
    ),
    says: /192\.0\.2\.1:\d+ as 198\.51\.100\.10:(819\d|8200) to 203\.0\.113\.1:81/,
    severity: 'error',
    undo: sh('nft delete table ip nat; conntrack -D --reply-dst 198.51.100.10'),
  },
  {
    id: 'conntrack-full',
    how: 'ten of ten',
    break: sh(
      `printf 10 > $WORK/ten.$$; for each in count max; do mount --bind $WORK/ten.$$ /proc/sys/net/netfilter/nf_conntrack_$each; done`,
    ),
    says: /10 of 10 entries/,
    severity: 'warning',
    undo: sh('umount /proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max'),
  },
];

export const packetCases: readonly Case[] = [...routing, ...nftables, ...conntrack];
