import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inNamespace, ipBatch } from '../../demo/commands.ts';
import { addresses, createLab, type Lab } from '../../demo/lab.ts';
import type { Lease } from '../../src/wire/leases.ts';
import type { ConnectOutcome, ConnectRequest } from './support/sdk-connect-process.ts';
import { namespaceOf } from './support/namespaces.ts';

/** Tells every visitor the address and port it sees, and leaves the connection open. */
const origin = `
  const answer = (socket) => { socket.on('error', () => {}); socket.write(socket.remoteAddress + ':' + socket.remotePort + '\\n'); };
  for (const host of ['${addresses.origin}', '${addresses.otherOrigin}', '2001:db8:f::1'])
    require('node:net').createServer(answer).listen(80, host, () => console.log('ready'));`;

const lease = (more: Partial<Lease> = {}): Partial<Lease> => ({
  id: 'lease-7',
  protocol: 'tcp',
  state: 'active',
  address: '198.51.100.10',
  ports: { first: 9_000, last: 9_003 },
  mode: 'shared',
  binding: 'late',
  ...more,
});

describe('connecting from a lease', () => {
  let lab: Lab;
  let host: ChildProcess;
  let localPort: number;
  let requests = 0;

  beforeAll(async () => {
    lab = createLab(namespaceOf('fd-connect'));
    inNamespace(
      lab.host,
      'sysctl',
      '-qw',
      'net.ipv4.ip_local_port_range=1024 65535',
      'net.ipv6.conf.all.disable_ipv6=0',
    );
    inNamespace(lab.origin, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0');
    ipBatch(
      lab.host,
      `addr add 198.51.100.10/32 dev lo
       addr add 2001:db8:1::1/64 dev h0 nodad
       addr add 2001:db8::10/128 dev lo nodad
       route add default via 2001:db8:1::2`,
    );
    ipBatch(
      lab.origin,
      `addr add 2001:db8:1::2/64 dev o0 nodad
       addr add 2001:db8:f::1/128 dev lo nodad
       route add 2001:db8::10/128 via 2001:db8:1::1`,
    );
    const originProcess = spawn('ip', ['netns', 'exec', lab.origin, process.execPath, '-e', origin], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let ready = '';
    for await (const chunk of originProcess.stdout) if ((ready += String(chunk)).split('ready').length > 3) break;
    const script = fileURLToPath(new URL('support/sdk-connect-process.ts', import.meta.url));
    host = spawn('ip', ['netns', 'exec', lab.host, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ ready: port }] = (await once(host, 'message')) as [{ ready: number }];
    localPort = port;
  });

  // Whatever runs in the lab's namespaces ends with them.
  afterAll(() => lab.remove());

  async function ask(request: Omit<ConnectRequest, 'id' | 'times'> & { times?: number }): Promise<ConnectOutcome[]> {
    const id = ++requests;
    host.send({ times: 1, fresh: true, ...request, id });
    for (;;) {
      const [reply] = (await once(host, 'message')) as [{ id: number; outcomes: ConnectOutcome[] }];
      if (reply.id === id) return reply.outcomes;
    }
  }

  /** What the remote must have seen, if the socket tells the truth about itself. */
  const saidOf = (outcome: ConnectOutcome | undefined) =>
    outcome && 'port' in outcome ? `${outcome.address}:${outcome.port}` : 'no connection';
  const portsOf = (outcomes: readonly ConnectOutcome[]) =>
    outcomes.map((outcome) => ('port' in outcome ? outcome.port : outcome.failure));

  for (const binding of ['late', 'explicit'] as const)
    describe(`bound ${binding === 'late' ? 'late' : 'explicitly'}`, () => {
      it('uses every port of the lease once toward one destination, as the origin sees it, and then says that none is left', async () => {
        const outcomes = await ask({ lease: lease({ binding }), host: addresses.origin, port: 80, times: 5 });
        expect(portsOf(outcomes.slice(0, 4)).toSorted()).toEqual([9_000, 9_001, 9_002, 9_003]);
        for (const outcome of outcomes.slice(0, 4)) expect(outcome).toMatchObject({ said: saidOf(outcome) });
        expect(outcomes[4]).toMatchObject({
          failure: 'ports_exhausted',
          code: 'EADDRNOTAVAIL',
          message: 'every port of 198.51.100.10:9000-9003 (lease-7) is in use toward 203.0.113.1:80',
        });
      });

      it('uses the same ports again toward another destination', async () => {
        const first = await ask({ lease: lease({ binding }), host: addresses.origin, port: 80, times: 4 });
        const second = await ask({
          lease: lease({ binding }),
          host: addresses.otherOrigin,
          port: 80,
          times: 4,
          fresh: false,
        });
        expect(portsOf(second).toSorted()).toEqual(portsOf(first).toSorted());
      });

      it('says who refused', async () => {
        const [outcome] = await ask({ lease: lease({ binding }), host: addresses.origin, port: 81 });
        expect(outcome).toMatchObject({ failure: 'refused', code: 'ECONNREFUSED' });
      });

      it('says that the address is not of this host', async () => {
        const [outcome] = await ask({
          lease: lease({ binding, address: '198.51.100.99' }),
          host: addresses.origin,
          port: 80,
        });
        expect(outcome).toMatchObject({ failure: 'address_not_local', code: 'EADDRNOTAVAIL' });
      });

      it('works with IPv6', async () => {
        const outcomes = await ask({
          lease: lease({ binding, address: '2001:db8::10' }),
          host: '2001:db8:f::1',
          port: 80,
          times: 5,
        });
        expect(portsOf(outcomes.slice(0, 4)).toSorted()).toEqual([9_000, 9_001, 9_002, 9_003]);
        expect(portsOf(outcomes.slice(4))).toEqual(['ports_exhausted']);
      });
    });

  it('binds an exclusive lease late', async () => {
    const exclusive = lease({ mode: 'exclusive', binding: null });
    expect(portsOf(await ask({ lease: exclusive, host: addresses.origin, port: 80, times: 5 })).slice(4)).toEqual([
      'ports_exhausted',
    ]);
  });

  it.each([
    [{ protocol: 'udp' as const }, 'lease-7 is a lease of udp ports'],
    [{ state: 'ending' as const }, 'lease-7 is ending, not active'],
  ])('refuses a lease that is no right to connect: %j', async (more, message) => {
    const [outcome] = await ask({ lease: lease(more), host: addresses.origin, port: 80 });
    expect(outcome).toMatchObject({ failure: 'unusable_lease', message });
  });

  it('refuses a destination of the other family', async () => {
    const [outcome] = await ask({ lease: lease(), host: '2001:db8:f::1', port: 80 });
    expect(outcome).toMatchObject({
      failure: 'unusable_lease',
      message: "2001:db8:f::1 is an IPv6 address, the lease's is IPv4",
    });
  });

  it('resolves a name first', async () => {
    const [outcome] = await ask({ lease: lease(), host: 'localhost', port: localPort });
    expect(outcome).toMatchObject({ said: saidOf(outcome) });
  });

  it('says that a name cannot be resolved', async () => {
    const [outcome] = await ask({ lease: lease(), host: 'no..name', port: 80 });
    expect(outcome).toMatchObject({ failure: 'resolve', code: 'ENOTFOUND' });
  });

  it('sends nothing when the kernel would take a port outside of the lease', async () => {
    inNamespace(lab.host, 'sysctl', '-qw', 'net.ipv4.ip_local_port_range=32768 60999');
    try {
      const [outcome] = await ask({ lease: lease(), host: addresses.origin, port: 80 });
      expect(outcome).toMatchObject({ failure: 'port_range' });
      expect(outcome).toMatchObject({ message: expect.stringContaining('32768-60999') as string });
    } finally {
      inNamespace(lab.host, 'sysctl', '-qw', 'net.ipv4.ip_local_port_range=1024 65535');
    }
  });

  it('gives up in time on a destination that does not answer, and when the caller says so', async () => {
    // The origin drops what comes for port 82.
    inNamespace(
      lab.origin,
      'nft',
      'add table inet silent { chain in { type filter hook input priority 0; tcp dport 82 drop; }; }',
    );
    const [slow] = await ask({ lease: lease(), host: addresses.origin, port: 82, timeoutMs: 200 });
    expect(slow).toMatchObject({
      failure: 'timeout',
      code: 'ETIMEDOUT',
      message: '203.0.113.1:82 did not answer within 200 ms',
    });
    const [aborted] = await ask({ lease: lease(), host: addresses.origin, port: 82, abortAfterMs: 100 });
    expect(aborted).toMatchObject({ failure: 'TimeoutError' });
  });
});
