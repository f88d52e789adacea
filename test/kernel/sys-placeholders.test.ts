import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLab, NamespaceProcess, type Lab } from './support/sys-lab.ts';

const here = '198.51.100.10';
const other = '198.51.100.11';
const here6 = '2001:db8::10';
const [origin, second] = ['203.0.113.1', '203.0.113.2'];
const [origin6, second6] = ['2001:db8:f::1', '2001:db8:f::2'];

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('place');
});
afterAll(() => lab.close());
afterEach(async () => {
  await lab.host.call('closeAll');
  await lab.peer.call('closeAll');
});

describe.each([
  ['IPv4', here, '0.0.0.0'],
  ['IPv6', here6, '::'],
])('a bound placeholder on %s', (_, address, wildcard) => {
  test.each(['tcp', 'udp'] as const)('holds a %s port against everybody, and no other port', async (protocol) => {
    const { host } = lab;
    expect(await host.call('openBound', address, 9000, protocol)).toBe('open');
    expect(await host.call('openBound', address, 9000, protocol)).toBe('EADDRINUSE');
    expect(await host.call('plain', { address, port: 9000, protocol })).toBe('EADDRINUSE');
    expect(await host.call('plain', { address, port: 9000, protocol, reuse: true })).toBe('EADDRINUSE');
    expect(await host.call('plain', { address: wildcard, port: 9000, protocol })).toBe('EADDRINUSE');
    expect(await host.call('openBound', address, 9001, protocol)).toBe('open');
    expect(await host.call('openBound', address, 9000, protocol === 'tcp' ? 'udp' : 'tcp')).toBe('open');
  });

  test('is refused where a listener on the wildcard address sits', async () => {
    expect(await lab.host.call('plain', { address: wildcard, port: 9010, reuse: true, listen: true })).toBe('open');
    expect(await lab.host.call('openBound', address, 9010, 'tcp')).toBe('EADDRINUSE');
  });

  test('comes free at once when it is closed', async () => {
    for (let i = 0; i < 3; i++) {
      expect(await lab.host.call('openBound', address, 9020, 'tcp')).toBe('open');
      await lab.host.call('closeAll');
    }
  });
});

test('a bound placeholder on one address leaves the port of another address alone', async () => {
  expect(await lab.host.call('openBound', here, 9030, 'tcp')).toBe('open');
  expect(await lab.host.call('openBound', other, 9030, 'tcp')).toBe('open');
});

test('an address that this host does not have is refused', async () => {
  expect(await lab.host.call('openBound', '198.51.100.99', 9031, 'tcp')).toBe('EADDRNOTAVAIL');
  expect(await lab.host.call('openBound', '2001:db8::99', 9031, 'udp')).toBe('EADDRNOTAVAIL');
  for (const binding of ['late', 'explicit'] as const)
    expect(await lab.host.call('openConnected', '198.51.100.99', 9031, origin, 443, binding)).toBe('EADDRNOTAVAIL');
});

test('a port that no socket can be asked for is refused, not replaced by another one', async () => {
  for (const port of [0, -1, 65_536, 70_000, 1.5, NaN]) {
    expect(await lab.host.call('openBound', here, port, 'tcp')).toBe('EINVAL');
    expect(await lab.host.call('openPing', here, port)).toBe('EINVAL');
    for (const binding of ['late', 'explicit'] as const) {
      expect(await lab.host.call('openConnected', here, port, origin, 443, binding)).toBe('EINVAL');
      expect(await lab.host.call('openConnected', here, 9032, origin, port, binding)).toBe('EINVAL');
    }
  }
});

describe('a ping placeholder', () => {
  test('is refused to everybody by the default ping_group_range', async () => {
    await lab.host.call('sysctl', 'net.ipv4.ping_group_range', '1 0');
    expect(await lab.host.call('openPing', here, 4000)).toBe('EACCES');
    await lab.host.call('sysctl', 'net.ipv4.ping_group_range', '0 0');
    expect(await lab.host.call('openPing', here, 4000)).toBe('open');
  });

  test('holds its identifier on every address and in both families', async () => {
    await lab.host.call('sysctl', 'net.ipv4.ping_group_range', '0 0');
    expect(await lab.host.call('openPing', here, 4001)).toBe('open');
    expect(await lab.host.call('openPing', here, 4001)).toBe('EADDRINUSE');
    expect(await lab.host.call('openPing', other, 4001)).toBe('EADDRINUSE');
    expect(await lab.host.call('openPing', here6, 4001)).toBe('EADDRINUSE');
    expect(await lab.host.call('openPing', here6, 4002)).toBe('open');
    expect(await lab.host.call('openPing', here, 4002)).toBe('EADDRINUSE');
  });
});

describe.each([
  ['IPv4', here, origin, second],
  ['IPv6', here6, origin6, second6],
])('a connected placeholder on %s', (_, address, remote, elsewhere) => {
  test.each(['late', 'explicit'] as const)('with %s binding holds one 5-tuple', async (binding) => {
    const { host } = lab;
    expect(await host.call('openConnected', address, 9100, remote, 443, binding)).toBe('open');
    expect(await host.call('openConnected', address, 9100, remote, 443, binding)).toMatch(/^EADDR(INUSE|NOTAVAIL)$/);
  });

  test.each(['late', 'explicit'] as const)('with %s binding shares its port with other remotes', async (binding) => {
    const { host } = lab;
    expect(await host.call('openConnected', address, 9101, remote, 443, binding)).toBe('open');
    expect(await host.call('openConnected', address, 9101, remote, 444, binding)).toBe('open');
    expect(await host.call('openConnected', address, 9101, elsewhere, 443, binding)).toBe('open');
  });

  test('with late binding makes a late-binding proxy step round it, toward this remote only', async () => {
    await lab.peer.call('listen', remote, 443);
    await lab.peer.call('listen', elsewhere, 443);
    expect(await lab.host.call('openConnected', address, 9110, remote, 443, 'late')).toBe('open');
    const proxy = { address, first: 9110, last: 9110, binding: 'late', remotePort: 443 } as const;
    expect(await lab.host.call('connectPrepared', { ...proxy, remote })).toEqual({ refused: 'connect EADDRNOTAVAIL' });
    expect(await lab.host.call('connectPrepared', { ...proxy, remote: elsewhere })).toEqual({ before: 0, port: 9110 });
    // And the other way round: the proxy's own connection holds its 5-tuple against a placeholder.
    expect(await lab.host.call('openConnected', address, 9110, elsewhere, 443, 'late')).toBe('EADDRNOTAVAIL');
  });

  test('with late binding gets another port of the range for a proxy that has one', async () => {
    await lab.peer.call('listen', remote, 443);
    expect(await lab.host.call('openConnected', address, 9112, remote, 443, 'late')).toBe('open');
    const proxy = { address, first: 9112, last: 9113, binding: 'late', remotePort: 443 } as const;
    expect(await lab.host.call('connectPrepared', { ...proxy, remote })).toEqual({ before: 0, port: 9113 });
  });

  test('with explicit binding shares its port with a proxy that binds with SO_REUSEADDR', async () => {
    await lab.peer.call('listen', remote, 443);
    await lab.peer.call('listen', elsewhere, 443);
    expect(await lab.host.call('openConnected', address, 9120, remote, 443, 'explicit')).toBe('open');
    const proxy = { address, first: 9120, last: 9127, port: 9120, binding: 'explicit', remotePort: 443 } as const;
    expect(await lab.host.call('connectPrepared', { ...proxy, remote })).toEqual({ refused: 'connect EADDRNOTAVAIL' });
    expect(await lab.host.call('connectPrepared', { ...proxy, remote: elsewhere })).toEqual({
      before: 9120,
      port: 9120,
    });
    expect(await lab.host.call('plain', { address, port: 9120 })).toBe('EADDRINUSE');
  });

  test.each(['late', 'explicit'] as const)('with %s binding is known again by its descriptor', async (binding) => {
    const { host } = lab;
    expect(await host.call('openConnected', address, 9125, remote, 443, binding, 42)).toBe('open');
    expect(await host.call('namesOfLast', 42)).toBe(`${address} 9125 ${remote} 443`);
    expect(await host.call('namesOfLast', 43)).toBeNull();
    expect(await host.call('openConnected', address, 9125, elsewhere, 8_443, binding)).toBe('open');
    expect(await host.call('namesOfLast', 0)).toBe(`${address} 9125 ${elsewhere} 8443`);
  });

  test('is none that the kernel has cut, is bound only, listens, sends or is connected', async () => {
    const { host, peer } = lab;
    const isOne = async () => (await host.call('namesOfLast', 0)) !== null;
    expect(await host.call('openBound', address, 9126, 'tcp')).toBe('open');
    expect(await isOne()).toBe(false);
    expect(await host.call('openBound', address, 9126, 'udp')).toBe('open');
    expect(await isOne()).toBe(false);
    expect(await host.call('plain', { address, port: 9127, listen: true })).toBe('open');
    expect(await isOne()).toBe(false);
    expect(await host.call('plain', { address, port: 9127, protocol: 'udp', remote: [remote, 443] })).toBe('open');
    expect(await isOne()).toBe(false);
    await peer.call('listen', remote, 443);
    expect(await host.call('plain', { address, port: 9128, remote: [remote, 443] })).toBe('open');
    expect(await isOne()).toBe(false);
    // Nobody has that address, so its SYN stays unanswered.
    const nobody = address === here ? '203.0.113.99' : '2001:db8:f::99';
    expect(await host.call('beginConnecting', { address, port: 9129 }, [nobody, 443], 0)).toBe('EINPROGRESS');
    expect(await isOne()).toBe(false);
    expect(await host.call('openConnected', address, 9129, remote, 444, 'late')).toBe('EADDRNOTAVAIL');
    expect(await host.call('openConnected', address, 9133, remote, 444, 'late')).toBe('open');
    expect(await isOne()).toBe(true);
    host.shell('ss -K state syn-sent dport = :444');
    expect(await isOne()).toBe(false);
    // By a reset from there, so that nothing lingers here.
    await peer.call('closeAll');
  });

  test('is refused on a port that a bound placeholder holds, and the other way round', async () => {
    expect(await lab.host.call('openBound', address, 9130, 'tcp')).toBe('open');
    expect(await lab.host.call('openConnected', address, 9130, remote, 443, 'late')).toBe('EADDRNOTAVAIL');
    expect(await lab.host.call('openConnected', address, 9130, remote, 443, 'explicit')).toBe('EADDRINUSE');
    expect(await lab.host.call('openConnected', address, 9131, remote, 443, 'late')).toBe('open');
    expect(await lab.host.call('openBound', address, 9131, 'tcp')).toBe('EADDRINUSE');
  });
});

describe('what the kernel does silently', () => {
  test('a port outside ip_local_port_range is refused instead of replaced', async () => {
    await lab.host.call('sysctl', 'net.ipv4.ip_local_port_range', '32768 60999');
    try {
      expect(await lab.host.call('openConnected', here, 9140, origin, 443, 'late')).toBe('EADDRNOTAVAIL');
      expect(await lab.host.call('openConnected', here6, 9140, origin6, 443, 'late')).toBe('EADDRNOTAVAIL');
      expect(await lab.host.call('openConnected', here, 40_000, origin, 443, 'late')).toBe('open');
      // A proxy's socket is connected by somebody else: there the clamp shows in localPortOf only.
      await lab.peer.call('listen', origin, 443);
      const proxy = { address: here, first: 9140, last: 9147, binding: 'late' as const };
      const got = await lab.host.call('connectPrepared', { ...proxy, remote: origin, remotePort: 443 });
      expect('port' in got && got.port).toBeGreaterThanOrEqual(32_768);
    } finally {
      await lab.host.call('sysctl', 'net.ipv4.ip_local_port_range', '1024 65535');
    }
  });

  test('a reserved port is refused to late binding and open to explicit binding', async () => {
    await lab.host.call('sysctl', 'net.ipv4.ip_local_reserved_ports', '9150');
    try {
      expect(await lab.host.call('openConnected', here, 9150, origin, 443, 'late')).toBe('EADDRNOTAVAIL');
      expect(await lab.host.call('openConnected', here, 9150, origin, 443, 'explicit')).toBe('open');
    } finally {
      await lab.host.call('sysctl', 'net.ipv4.ip_local_reserved_ports', '');
    }
  });

  test('without Fast Open a connected placeholder is refused, not connected', async () => {
    await lab.host.call('sysctl', 'net.ipv4.tcp_fastopen', '0');
    try {
      expect(await lab.host.call('openConnected', here, 9160, origin, 443, 'late')).toBe('EOPNOTSUPP');
    } finally {
      await lab.host.call('sysctl', 'net.ipv4.tcp_fastopen', '1');
    }
  });
});

test('every kind carries its mark', async () => {
  expect(await lab.host.call('marksOf', 0x2a)).toEqual(Array(6).fill(0x2a));
  expect(await lab.host.call('marksOf', 0)).toEqual(Array(6).fill(0));
});

test('opening and closing one allocates nothing', async () => {
  // In a process that has seen no port like 1.5, which made the compiler of this one keep ports as objects.
  const fresh = await NamespaceProcess.start(lab.host.namespace);
  expect(await fresh.call('heapOfPlaceholders')).toBeLessThan(16);
  await fresh.stop();
});

test('a UDP placeholder keeps hardly any of the strays that nobody reads', async () => {
  expect(await lab.host.call('openBound', here, 9180, 'udp')).toBe('open');
  await lab.peer.call('datagrams', here, 9180, 500);
  const held = Number(/skmem:\(r(\d+),/.exec(lab.host.shell('ss -Huanm sport = :9180'))?.[1]);
  // Something arrived, so the path is real; an ordinary socket would hold all 500 (the default is 208 kB).
  expect(held).toBeGreaterThan(0);
  expect(held).toBeLessThan(8192);
});

describe('on the wire and afterwards', () => {
  const sent = () => Number(/packets (\d+)/.exec(lab.host.shell('nft list counter inet fs_test tcp_out'))?.[1]);

  test('a connected placeholder sends nothing, opened or closed, and leaves no TIME_WAIT', async () => {
    lab.host.shell(
      'nft -f -',
      `table inet fs_test {
        counter tcp_out { }
        chain out { type filter hook output priority 0; meta l4proto tcp counter name tcp_out; }
      }\n`,
    );
    await lab.peer.call('listen', origin, 443);
    for (let round = 0; round < 2; round++) {
      for (const binding of ['late', 'explicit'] as const) {
        const port = binding === 'late' ? 9200 : 9201;
        expect(await lab.host.call('openConnected', here, port, origin, 443, binding)).toBe('open');
        expect(await lab.host.call('openConnected', here6, port, origin6, 443, binding)).toBe('open');
      }
      expect(lab.host.shell('ss -Htan state syn-sent | wc -l')).toBe('4');
      await lab.host.call('closeAll');
      // The second round opens the same 5-tuples again at once: nothing lingered.
      expect(lab.host.shell('ss -Htan state time-wait | wc -l')).toBe('0');
    }
    expect(sent()).toBe(0);
    // The counter does count: an ordinary connection on the same 5-tuple shows.
    expect(await lab.host.call('plain', { address: here, port: 9200, remote: [origin, 443] })).toBe('open');
    expect(sent()).toBeGreaterThan(0);
  });

  test('a thousand rounds of every kind, refused ones included, leave no descriptor behind', async () => {
    await lab.host.call('sysctl', 'net.ipv4.ping_group_range', '0 0');
    expect(await lab.host.call('leakOf', 1000)).toBe(0);
  });
});
