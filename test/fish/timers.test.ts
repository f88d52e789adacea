import { describe, expect, test } from 'vitest';
import { defaultTimers, type FlowTimers } from '../../src/fish/config.ts';
import { block, client, inside, Pond } from '../support/fish.ts';
import { echo, read, udp, type Endpoint, type PacketFields } from '../support/packets.ts';

const address = '198.51.100.10';
const origin: Endpoint = { address: '203.0.113.1', port: 53 };

type Kind = Readonly<{ out: PacketFields; answer: (to: Endpoint) => PacketFields; afterwards: string }>;
const kinds: Readonly<Record<'udp' | 'icmp', Kind>> = {
  udp: { out: udp(client, origin), answer: (to) => udp(origin, to), afterwards: 'resting' },
  icmp: {
    out: echo(client.address, origin.address, client.port),
    answer: (to) => echo(origin.address, to.address, to.port, 0),
    // It takes no rest.
    afterwards: 'no_flow',
  },
};

describe.each([
  ['a UDP mapping lasts for five minutes (RFC 4787 REQ-5)', 'udp', 'udpS', 300],
  ['the mapping of an echo lasts for a minute (RFC 5508 REQ-2)', 'icmp', 'icmpS', 60],
] as const)('%s', (_title, protocol, timer, seconds) => {
  const { out, answer, afterwards } = kinds[protocol];

  test.each([
    ['by default', undefined],
    ['or as long as the settings say', seconds / 2],
    ['or longer', seconds * 3],
  ])('since the client has last used it, %s', (_when, setting) => {
    const timers: Partial<FlowTimers> = setting === undefined ? {} : { [timer]: setting };
    const lasts = setting ?? seconds;
    expect(defaultTimers[timer]).toBe(seconds);
    const pond = new Pond([block(address, protocol, 9_000, 9_007)], { timers });
    const send = () => {
      const { source, sourcePort } = read(pond.send(out).bytes);
      return { address: source, port: sourcePort };
    };
    const leased = send();
    pond.pass(lasts - 1);
    // What comes in keeps nothing, what goes out does.
    expect(inside(pond.send(answer(leased)))).toMatchObject({ address: client.address });
    expect(send()).toEqual(leased);
    pond.pass(lasts - 1);
    expect(inside(pond.send(answer(leased)))).toMatchObject({ address: client.address });
    pond.pass(2);
    expect(pond.send(answer(leased)).verdict).toBe(afterwards);
    expect([...pond.forwarder.flows()].filter(({ state }) => state === 'live')).toEqual([]);
  });
});
