import { describe, expect, it } from 'vitest';
import type { Address } from '../../../src/net/address.ts';
import { block, origin, origin6, Pond } from '../../support/fish.ts';
import { tcp, type Endpoint } from '../../support/packets.ts';

/** Nobody gets a port: every SYN is one to be refused. */
const full = (more: object = {}) =>
  new Pond([block('198.51.100.10', 'udp', 9_000, 9_000)], {
    icmpSource: '100.96.0.1' as Address,
    icmpSource6: '2001:db8:c::1' as Address,
    ...more,
  });
const clientAt = (host: number): Endpoint => ({ address: `100.96.${host >> 8}.${host & 255}`, port: 40_000 });
/** How many of so many SYNs are answered. */
const answered = (pond: Pond, from: Endpoint, syns: number, to = origin): number => {
  let answers = 0;
  for (let port = 1; port <= syns; port++) {
    pond.send(tcp({ ...from, port }, to, 'S'));
    if (pond.reply()) answers++;
  }
  return answers;
};

describe.each([
  ['by ICMP', {}],
  ['by resets', { refuseTcpWith: 'rst' }],
] as const)('what refusals %s there are in a second', (how, settings) => {
  it('one client does not use up, however fast it asks', () => {
    const pond = full(settings);
    expect(answered(pond, clientAt(2), 1_000)).toBe(51);
    expect(answered(pond, clientAt(3), 10)).toBe(10);
    const { icmpErrorsSent, icmpErrorsSuppressed, tcpResetsSent, tcpResetsSuppressed } = pond.forwarder.counters();
    expect(how === 'by ICMP' ? [icmpErrorsSent, icmpErrorsSuppressed] : [tcpResetsSent, tcpResetsSuppressed]).toEqual([
      61, 949,
    ]);
  });

  it('nor do ten that never stop: whoever comes next is answered', () => {
    const pond = full(settings);
    let modest = 0;
    let greedy = 0;
    for (let tenth = 1; tenth <= 300; tenth++) {
      pond.nowMs += 100;
      for (let host = 2; host < 12; host++) greedy += answered(pond, clientAt(host), 20);
      if (tenth % 10 === 0) modest += answered(pond, clientAt(1_000 + tenth), 1);
    }
    expect(modest).toBe(30);
    // Most are used nevertheless.
    expect(greedy).toBeGreaterThan(30 * 100 * 0.8);
  });

  it('one that is alone has most of, in the long run', () => {
    const pond = full(settings);
    let answers = 0;
    for (let tenth = 1; tenth <= 300; tenth++) {
      pond.nowMs += 100;
      answers += answered(pond, clientAt(2), 20);
    }
    expect(answers).toBeGreaterThan(30 * 100 * 0.8);
    expect(answers).toBeLessThanOrEqual(31 * 100);
  });
});

it('addresses of one IPv6 prefix are one client, and refused as such', () => {
  const pond = full();
  const from = (host: number, prefix = 1): Endpoint => ({ address: `2001:db8:c:${prefix}::${host}`, port: 40_000 });
  let answers = 0;
  for (let host = 1; host <= 200; host++) answers += answered(pond, from(host), 1, origin6);
  expect(answers).toBe(51);
  expect(answered(pond, from(1, 2), 5, origin6)).toBe(5);
});

it('that no refusals are wanted is so for each client', () => {
  expect(answered(full({ icmpErrorsPerSMax: 0 }), clientAt(2), 5)).toBe(0);
  expect(answered(full({ icmpErrorsPerSMax: 1 }), clientAt(2), 5)).toBe(1);
});
