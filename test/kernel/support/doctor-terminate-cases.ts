import { sh, type Case } from './doctor-breaking.ts';

/** What the terminating path needs of a host. */
const settings = { terminate: { claims: [{ protocol: 'tcp', mode: 'shared', ports: 128 }] } };
const rule = 'priority 10 iif hc fwmark 0x2b/0xff lookup 101';
const route = 'local default dev lo table 101';

/** Says that it is a terminator, as one does, until it is told to end. */
const pretend = (hello: object) =>
  sh(`path=/run/fishery/terminator-$(stat -Lc %i /proc/self/ns/net).sock
    mkdir -p /run/fishery
    setsid ${process.execPath} -e 'require("node:net").createServer((socket) => { socket.on("error", () => {}); socket.write(process.argv[2] + "\\n"); }).listen(process.argv[1])' "$path" '${JSON.stringify(hello)}' > /dev/null 2>&1 < /dev/null &
    echo $! > $WORK/pretender
    for each in $(seq 100); do test -S "$path" && break; sleep 0.1; done`);
const endPretending = sh(
  'kill $(cat $WORK/pretender); rm -f /run/fishery/terminator-$(stat -Lc %i /proc/self/ns/net).sock',
);
const hello = { pid: 1, port: 7_490, uid: null, log: null };

export const terminateCases: readonly Case[] = [
  {
    id: 'tproxy',
    how: 'the kernel has no tproxy',
    settings,
    break:
      sh(`printf '#!/bin/sh\\nif grep -q tproxy; then echo "Could not process rule: No such file or directory" >&2; exit 1; fi\\n' > $WORK/fake.$$
      chmod 755 $WORK/fake.$$; mount --bind $WORK/fake.$$ /usr/sbin/nft`),
    says: /Could not process rule/,
    severity: 'error',
    undo: sh('umount /usr/sbin/nft'),
  },
  {
    id: 'terminate-routing',
    how: 'the rule without its route',
    settings,
    break: sh(`ip rule add ${rule}`),
    says: /table 101 \(-4\) has no route/,
    severity: 'error',
    undo: sh(`ip rule del ${rule}`),
  },
  {
    id: 'terminate-routing',
    how: 'the route without its rule',
    settings,
    break: sh(`ip route add ${route}`),
    says: /no rule \(-4\) leads what comes by hc with mark 0x2b to table 101/,
    severity: 'error',
    undo: sh(`ip route del ${route}`),
  },
  {
    id: 'terminator',
    how: 'of another version',
    settings,
    break: pretend({ protocol: 2, version: '0.0.0-before', ...hello }),
    says: /is of version 0\.0\.0-before/,
    severity: 'warning',
    undo: endPretending,
    after: 'info',
  },
  {
    id: 'terminator',
    how: 'of one that speaks another language',
    settings,
    break: pretend({ protocol: 0, version: '0.0.0-before', ...hello }),
    says: /speaks another language/,
    severity: 'error',
    undo: endPretending,
    after: 'info',
  },
  {
    id: 'terminator-descriptors',
    how: 'more connections than descriptors',
    settings: { terminate: { ...settings.terminate, connections_max: 1_000_000 } },
    break: () => '',
    says: /enough for \d+ connections of 1000000/,
    severity: 'warning',
  },
];
