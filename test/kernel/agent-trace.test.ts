import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KernelSteps } from '../../src/agent/trace/kernel-steps.ts';
import { traceTable } from '../../src/agent/trace/kernel-table.ts';
import { cut } from '../support/cut-packets.ts';
import { build, echo, hexOf, udp } from '../support/packets.ts';
import { AgentLab, eventually, fishOfEachKind, type AgentProcess } from './support/agent-lab.ts';

const [pool, origin] = ['198.51.100.10', '203.0.113.1'];
const sendPackets = fileURLToPath(new URL('support/send-packets.py', import.meta.url));
const [webUid, otherUid] = [2_001, 2_002];

describe('a trace on a host with fish and a proxy', () => {
  let lab: AgentLab;
  let agent: AgentProcess;
  let config: string;
  const tables = () => lab.shell(lab.host, 'nft list tables');
  const leaveTable = () => lab.shell(lab.host, 'nft add table inet fishery_trace');

  beforeAll(async () => {
    lab = await AgentLab.open('trace');
    config = await lab.setUp({ settings: { client_interfaces: ['hc'], fish: fishOfEachKind } });
    await lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: webUid });
    leaveTable();
    agent = lab.startAgent(config);
    await agent.until(({ lease_counts }) => lease_counts['up'] === fishOfEachKind.claims.length, 'no leases');
  });
  afterAll(() => lab.close());

  it('tells of a flow that works and of a packet that the guard drops, and leaves no table behind', async () => {
    expect(tables()).not.toContain('fishery_trace');
    const { id: session } = await lab.client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
    const { leases } = await lab.client.leases.grant({ session, claims: [{ protocol: 'udp', ports: 128 } as never] });
    const port = leases[0]?.ports.first ?? NaN;
    const answering = await lab.user(lab.origin, 0);
    await answering.ask({ op: 'udp', from: origin, port: 53, to: '', toPort: 0, timeout_ms: 1 });
    const other = await lab.user(lab.host, otherUid);

    // The user's sockets stay open: each round has a port of its own.
    const tracking = { isOver: false, round: 0 };
    const asked = agent.get(`/trace?remote=${origin}&protocol=udp&port=53&packets=6&seconds=60`).finally(() => {
      tracking.isOver = true;
    });
    await eventually(
      () => tables().includes('fishery_trace') || undefined,
      () => agent.output.slice(-2_000),
    );
    await eventually(
      async () => {
        expect(await other.udp(pool, port + tracking.round++)).toBe('EPERM');
        lab.shell(lab.clientSide, `bash -c 'echo there > /dev/udp/${origin}/53'`);
        return tracking.isOver || undefined;
      },
      () => 'the trace does not end',
      50_000,
    );
    const { code, text } = await asked;
    expect(code, text).toBe(200);
    const { steps, kernel_problem } = JSON.parse(text) as {
      steps: { by: string; verdict: string; text: string }[];
      kernel_problem: string | null;
    };
    expect(kernel_problem).toBe(null);
    const all = steps.map((step) => `${step.by} ${step.text}`).join('\n');
    const [client, leased, remote] = ['100\\.64\\.0\\.2:\\d+', '198\\.51\\.100\\.10:\\d+', '203\\.0\\.113\\.1:53'];
    for (const line of [
      `kernel udp ${client} > ${remote}, 34 bytes: arrived by hc`,
      `fish udp ${client} > ${remote}, 34 bytes: forwarded as udp ${leased} > ${remote}`,
      `kernel udp ${leased} > ${remote}, 34 bytes: arrived by fishtun`,
      `kernel udp ${leased} > ${remote}, 34 bytes: guard: accepted in guard4_fish`,
      `kernel udp ${remote} > ${leased}, 34 bytes: steer: to fish, steer_block: fish has the block to itself`,
      `kernel udp ${leased} > ${remote}, \\d+ bytes: sent by this host toward h0`,
      `kernel udp ${leased} > ${remote}, \\d+ bytes: guard: dropped, guard_uid: a socket of another user`,
    ])
      expect(all).toMatch(new RegExp(line));
    expect(tables()).not.toContain('fishery_trace');
    await eventually(
      () => !lab.processes().some((line) => line.includes('monitor')) || undefined,
      () => lab.processes().join('\n'),
    );
  }, 90_000);

  it('has the kernel find a flow in its errors, fragments, echoes and behind extension headers, and no other', async () => {
    // Where nobody puts fragments together first.
    const [host4, host6, origin6] = ['192.0.2.1', '2001:db8:1::1', '2001:db8:1::2'];
    const packets = (port: number): readonly Uint8Array[] => {
      const flow4 = [
        { address: host4, port },
        { address: origin, port: 9 },
      ] as const;
      const flow6 = [
        { address: host6, port: 9 },
        { address: origin6, port },
      ] as const;
      const [sent4, sent6] = [build(udp(...flow4, { options: [1, 1, 1, 1] })), build(udp(...flow6))];
      const error = (about: Uint8Array, source: string, destination: string, type: number) =>
        build({ protocol: 'icmp', source, destination, type, code: 0, identifier: 0, data: about });
      const behind = { extensions: [{ type: 60, body: [1, 4, 0, 0, 0, 0] }] };
      // No larger than a link lets pass as it is.
      const large = { identification: port, data: new Uint8Array(1_000) };
      return [
        ...cut(build(udp(...flow4, large)), 504),
        ...cut(build(udp(...flow6, large)), 504),
        build(echo(host4, origin, port)),
        build(echo(host6, origin6, port)),
        build(udp(...flow6, behind)),
        error(sent4, host4, origin, 11),
        error(sent6, host6, origin6, 3),
      ];
    };
    lab.shell(lab.origin, 'nft -f -', traceTable({ addresses: [], ports: [54] }));
    const monitor = lab.spawn(lab.origin, ['nft', 'monitor', 'trace']);
    const steps = new KernelSteps(100);
    let heard = '';
    monitor.stdout?.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
      const lines = heard.split('\n');
      heard = lines.pop() ?? '';
      for (const line of lines) steps.hear(line, 0);
    });
    const send = (...each: readonly Uint8Array[]) =>
      lab.shell(lab.host, `python3 ${sendPackets} ${each.map(hexOf).join(' ')}`);
    const begun = build(udp({ address: host4, port: 1 }, { address: origin, port: 54 }));
    await eventually(
      () => {
        send(begun);
        return steps.found.length > 0 || undefined;
      },
      () => 'nft says nothing',
    );
    const wanted = packets(54);
    send(...packets(55), ...wanted);
    const arrived = () =>
      steps.found.filter(({ text }) => text.includes('arrived by o0') && !text.includes(`${host4}:1 `));
    await eventually(
      () => arrived().length >= wanted.length || undefined,
      () =>
        arrived()
          .map(({ text }) => text)
          .join('\n'),
    );
    // What was not looked for was sent before.
    expect(arrived().map(({ text }) => text)).toHaveLength(wanted.length);
    monitor.kill('SIGKILL');
    lab.shell(lab.origin, `nft delete table inet fishery_trace`);
  });

  it('is cleared away by agent down, when an agent died during it', async () => {
    leaveTable();
    await agent.end('SIGKILL');
    lab.down(config);
    expect(tables()).toBe('');
  });
});
