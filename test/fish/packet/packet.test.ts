import { describe, expect, test } from 'vitest';
import {
  familyOfProtocol,
  flowProtocol,
  ICMP,
  ICMP6,
  isEcho,
  isTcp,
  isUdp,
  protocolName,
  TCP,
  TCP6,
  UDP,
  UDP6,
} from '../../../src/fish/packet/packet.ts';

describe('the protocol of a flow', () => {
  test.each([
    ['tcp', 4, TCP],
    ['udp', 4, UDP],
    ['icmp', 4, ICMP],
    ['tcp', 6, TCP6],
    ['udp', 6, UDP6],
    ['icmp', 6, ICMP6],
  ] as const)('%s over IPv%i is one number, and tells both', (name, family, number) => {
    expect(flowProtocol(name, family)).toBe(number);
    expect(protocolName(number)).toBe(name);
    expect(familyOfProtocol(number)).toBe(family);
    expect([isTcp(number), isUdp(number), isEcho(number)]).toEqual([name === 'tcp', name === 'udp', name === 'icmp']);
  });

  test.each([0, 2, 58, 0x80, 0xba])('%i is none', (number) => {
    expect(protocolName(number)).toBeUndefined();
    expect([isTcp(number), isUdp(number), isEcho(number)]).toEqual([false, false, false]);
  });
});
