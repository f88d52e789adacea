import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, eventually, fishOfEachKind, type AgentProcess, type User } from './support/agent-lab.ts';

const address = '198.51.100.10';
const webUid = 2_001;

/** What kube-proxy, Docker and Tailscale leave on a host, as far as a namespace can carry it: NAT, so conntrack is on. */
const tables = `
table ip nat {
  chain KUBE-MARK-MASQ { meta mark set meta mark | 0x4000; }
  chain KUBE-SERVICES { ip daddr 10.96.0.1 tcp dport 443 jump KUBE-MARK-MASQ; }
  chain KUBE-POSTROUTING {
    meta mark & 0x4000 != 0x4000 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }
  chain DOCKER { iifname "docker0" return; }
  chain PREROUTING {
    type nat hook prerouting priority dstnat; policy accept;
    jump KUBE-SERVICES
    fib daddr type local jump DOCKER
  }
  chain OUTPUT {
    type nat hook output priority -100; policy accept;
    jump KUBE-SERVICES
    ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER
  }
  chain POSTROUTING {
    type nat hook postrouting priority srcnat; policy accept;
    jump KUBE-POSTROUTING
    ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
    meta mark & 0xff0000 == 0x40000 masquerade
  }
}
table ip filter {
  chain KUBE-FIREWALL { meta mark & 0x8000 == 0x8000 drop; }
  chain DOCKER-USER { return; }
  chain INPUT {
    type filter hook input priority filter; policy accept;
    jump KUBE-FIREWALL
    ct state established,related accept
  }
  chain FORWARD {
    type filter hook forward priority filter; policy accept;
    jump DOCKER-USER
    ct state invalid drop
  }
  chain OUTPUT { type filter hook output priority filter; policy accept; jump KUBE-FIREWALL; }
}
`.replaceAll(/; \}/g, '\n }');
const routing = [
  'ip route add 203.0.113.200/32 dev h0 table 52',
  ...['-4', '-6'].flatMap((family) => [
    `ip ${family} rule add priority 5210 fwmark 0x80000/0xff0000 lookup main`,
    `ip ${family} rule add priority 5230 fwmark 0x80000/0xff0000 lookup default`,
    `ip ${family} rule add priority 5250 fwmark 0x80000/0xff0000 unreachable`,
    `ip ${family} rule add priority 5270 lookup 52`,
  ]),
];
/** Sets a bit of somebody else's on everything that arrives, before the agent does, and counts what has both afterwards. */
const witness = `
table ip witness {
  counter both {}
  chain before {
    type filter hook prerouting priority -310
    iifname "h0" meta mark set meta mark | 0x40000000
  }
  chain after {
    type filter hook prerouting priority -290
    meta mark & 0x40000300 == 0x40000100 counter name "both"
  }
}
`;

/** What many a guide to routers says, without a word about sources. */
const masquerade = `
table ip router {
  chain post {
    type nat hook postrouting priority -198
    oifname "h0" masquerade
  }
}
`;

/** None of them is the default. */
const settings = {
  ...{ mark: '0x100', mark_mask: '0x300', route_table: 7_700, rule_priority: 100, tun: 'fishy0' },
  ...{ client_interfaces: ['hc'], fish: { ...fishOfEachKind, session_ttl_s: 600 } },
};

let lab: AgentLab;
let agent: AgentProcess;
let config: string;
let before: Readonly<Record<string, string>>;
let web: User;
let client: User;
let block: number;

beforeAll(async () => {
  lab = await AgentLab.open('coexist');
  lab.shell(lab.host, 'nft -f -', tables);
  for (const command of routing) lab.shell(lab.host, command);
  config = await lab.setUp({ settings });
  await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
  const origin = await lab.user(lab.origin, 0);
  await origin.ask({ op: 'echo', on: '203.0.113.1', port: 80 });
  await origin.ask({ op: 'udp', from: '203.0.113.1', port: 53, to: '', toPort: 0, timeout_ms: 1 });
  before = lab.fingerprint();
  agent = lab.startAgent(config);
  await agent.until(({ lease_counts, guard }) => lease_counts['up'] === 3 && guard.open, 'fish has not its leases');
  const session = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
  const { leases } = await lab.client.leases.grant({ session: session.id, claims: [{ protocol: 'tcp', ports: 64 }] });
  block = leases[0]?.ports.first ?? NaN;
  web = await lab.user(lab.host, webUid);
  client = await lab.user(lab.clientSide, 0);
});
afterAll(() => lab.close());

async function echoes(user: User, socket: string): Promise<void> {
  expect(await user.ask({ op: 'say', socket, text: 'there' })).toBe('said');
  await eventually(
    async () => ((await user.ask({ op: 'heard', socket })) === 'there' ? true : undefined),
    () => `no echo\n${agent.output.slice(-1_000)}`,
  );
}

/** What a proxy and a client of fish send arrives from leased ports, and is answered. */
async function bothWork(port: number): Promise<void> {
  const capture = await lab.capture(lab.origin, 'o0', 'tcp dst port 80');
  const byProxy = await web.connect(address, port);
  expect(byProxy).toMatch(/^socket-/);
  const byFish = await client.connect('100.64.0.2', 0);
  expect(byFish).toMatch(/^socket-/);
  await echoes(web, byProxy);
  await echoes(client, byFish);
  expect(await client.udp('100.64.0.2', 0)).toMatch(/^socket-/);
  const sources = (await capture.stop()).map((line) => / IP (\S+)\.(\d+) > /.exec(line)?.slice(1));
  expect(sources).not.toEqual([]);
  expect([...new Set(sources.map((source) => source?.[0]))]).toEqual([address]);
}

describe('beside kube-proxy, Docker and Tailscale, with other marks, tables, priorities and names than the defaults', () => {
  it('the agent sets its host up where it was told to, and has nothing to complain of', async () => {
    expect(lab.shell(lab.host, 'ip rule').split('\n').slice(0, 3)).toEqual([
      '100:\tfrom all fwmark 0x100/0x300 lookup 7700 proto 70',
      '101:\tfrom all lookup local proto 70',
      '102:\tfrom all iif hc lookup 7700 proto 70',
    ]);
    expect(lab.shell(lab.host, 'ip route show table 7700')).toContain('default dev fishy0 proto 70');
    expect((await agent.status()).host.problem).toBeNull();
  });

  it('fish and a proxy work on their leased ports, though connections are tracked and others translate', async () => {
    await bothWork(block);
  });

  it('bits of others in the mark of a packet are kept', async () => {
    lab.shell(lab.host, 'nft -f -', witness);
    // Datagrams: what the program at tc ingress leads to fish does not come by here.
    expect(await client.udp('100.64.0.2', 0)).toMatch(/^socket-/);
    const counted = lab.shell(lab.host, 'nft list counter ip witness both');
    lab.shell(lab.host, 'nft delete table ip witness');
    expect(counted).toMatch(/packets [1-9]/);
  });

  it('leased traffic keeps its source, though somebody translates all that leaves the uplink', async () => {
    lab.shell(lab.host, 'nft -f -', masquerade);
    // Not what is not leased: that is still theirs.
    const capture = await lab.capture(lab.origin, 'o0', 'tcp dst port 80');
    expect(lab.shell(lab.host, 'nft list chain inet fishery keep')).toContain('snat ip to ip saddr');
    await bothWork(block + 2);
    const others = await lab.user(lab.host, 0);
    expect(await others.connect('192.0.2.1', 0)).toMatch(/^socket-/);
    const sources = new Set((await capture.stop()).map((line) => / IP (\S+)\.\d+ > /.exec(line)?.[1]));
    expect([...sources].sort()).toEqual(['192.0.2.1', address].sort());
    lab.shell(lab.host, 'nft delete table ip router');
  });

  it('what the others change meanwhile is none of its business', async () => {
    const { drift_repaired: repaired } = (await agent.status()).host;
    lab.shell(
      lab.host,
      'nft add rule ip nat DOCKER tcp dport 8080 dnat to 172.17.0.2:80; nft flush chain ip nat DOCKER',
    );
    lab.shell(lab.host, 'nft add rule ip nat DOCKER iifname docker0 return');
    lab.shell(lab.host, 'ip rule del priority 5270; ip rule add priority 5270 lookup 52');
    await bothWork(block + 1);
    expect((await agent.status()).host).toMatchObject({ problem: null, drift_repaired: repaired });
  });

  it('down leaves the host byte for byte as they had it', async () => {
    await agent.end();
    lab.down(config);
    expect(lab.fingerprint()).toEqual(before);
  });

  it('down leaves what others have set since as they have it, as if the agent had never been there, and says so', async () => {
    const show = (key: string) => lab.shell(lab.host, `sysctl -n ${key}`).trim().split(/\s+/).join(' ');
    agent = lab.startAgent(config);
    await agent.until(({ guard, host }) => guard.open && host.problem === null, 'the host is not set up');
    // dockerd and kubelet have the whole host forward, on all devices; an administrator has ideas about ports and about ping.
    lab.shell(lab.host, 'sysctl -w net.ipv4.ip_forward=1 net.ipv4.ping_group_range="0 2147483647"');
    lab.shell(lab.host, 'sysctl -w net.ipv4.ip_local_port_range="20000 65000"');
    await eventually(
      () => (show('net.ipv4.ip_local_port_range') === '1024 65535' ? true : undefined),
      () => 'the range is not widened again',
    );
    await agent.end('SIGKILL');
    const said = lab.down(config);
    expect(said).toContain(
      'sysctl net/ipv4/ping_group_range stays "0 2147483647": somebody else has set it since (the agent had set "0 0"); ' +
        'before the agent it was "1 0"',
    );
    for (const device of ['h0', 'hc']) {
      expect(show(`net.ipv4.conf.${device}.forwarding`)).toBe('1');
      expect(said).toContain(
        `sysctl net/ipv4/conf/${device}/forwarding stays "1": somebody else has set net/ipv4/conf/all/forwarding, ` +
          'which is for all devices, to "1" since',
      );
    }
    expect(show('net.ipv4.ping_group_range')).toBe('0 2147483647');
    expect(show('net.ipv4.ip_local_port_range')).toBe('20000 65000');
  });
});
