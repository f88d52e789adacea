import { fc, test as property } from '@fast-check/vitest';
import { describe, expect, test } from 'vitest';
import { addressFromBigInt } from '../../src/net/address.ts';
import { MessageWriter, messagesIn } from '../../src/sys/netlink-message.ts';
import {
  coversAddress,
  ipv6Text,
  portFilter,
  readSocket,
  writeDestroy,
  writeSocketDump,
  type SocketInfo,
} from '../../src/sys/sock-diag-message.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));

function lines(writer: MessageWriter): string[] {
  return [...messagesIn(writer.buffer, writer.length)].map(
    ({ type, flags, from, to }) => `${type} ${flags.toString(16)} ${hex(writer.buffer.subarray(from, to))}`,
  );
}

/** A socket as the kernel describes it: {family, state}, ports, addresses, interface, cookie, counters, uid, inode. */
const answer = (o: { family: string; state: string; source: string; target: string; rest?: string }) =>
  bytes(
    `${o.family} ${o.state} 00 00  2328 01bb ${o.source} ${o.target} 00000000 11111111 22222222
     00000000 00000000 00000000 e8030000 39300000 ${o.rest ?? ''}`,
  );
const four = (address: string) => address + '00'.repeat(12);
const read = (buffer: Uint8Array, type = 20) =>
  readSocket(buffer, { type, flags: 2, sequence: 1, from: 0, to: buffer.length }, 'tcp');

const established4 = answer({
  family: '02',
  state: '01',
  source: four('c633640a'),
  target: four('cb007101'),
  rest: '08000f00 2a000000',
});

test('a port range becomes one comparison for each end, which jumps on, to the end, or just beyond it to refuse', () => {
  expect(hex(portFilter({ first: 9000, last: 9127 }))).toBe('02081400' + '00002823' + '03080c00' + '0000a723');
});

test('a dump asks for all states, those bound and nothing else included', () => {
  const writer = new MessageWriter();
  writeSocketDump(writer, { protocol: 'udp', family: 10, ports: { first: 1, last: 65_535 } });
  const filter = '14000100' + '02081400' + '00000100' + '03080c00' + '0000ffff';
  expect(lines(writer)).toEqual([`20 301 ${'0a110000' + 'fe3f0000' + '00'.repeat(48)}${filter}`]);
});

describe('a socket in an answer', () => {
  test('has addresses, ports, owner and mark', () => {
    expect(read(established4)).toEqual({
      family: 4,
      protocol: 'tcp',
      state: 'established',
      localAddress: '198.51.100.10',
      localPort: 9000,
      remoteAddress: '203.0.113.1',
      remotePort: 443,
      uid: 1000,
      inode: 12_345,
      mark: 42,
      cookie: { family: 2, id: established4.slice(4, 52) },
    });
  });

  test.each([
    ['20010db8000000000000000000000010', 6, '2001:db8::10'],
    ['00000000000000000000000000000000', 6, '::'],
    ['00000000000000000000ffffc633640a', 4, '198.51.100.10'],
  ] as const)('of IPv6 at %s is family %i on %s', (source, family, localAddress) => {
    const socket = read(
      answer({ family: '0a', state: '0a', source, target: '00'.repeat(16), rest: '05000b00 01000000' }),
    );
    expect(socket).toMatchObject({ family, localAddress, state: 'listen', ipv6Only: true, cookie: { family: 10 } });
    expect(socket).not.toHaveProperty('mark');
  });

  test.each([
    ['02', 'syn-sent'],
    ['06', 'time-wait'],
    ['07', 'bound'],
    ['0c', 'new-syn-recv'],
    ['0e', 'unknown'],
  ])('in state %s is %s', (state, name) => {
    const addresses = { source: four('c633640a'), target: four('00000000') };
    expect(read(answer({ family: '02', state, ...addresses }))?.state).toBe(name);
  });

  test('is none when the message is another one, cut short, or of another family', () => {
    expect(read(established4, 21)).toBeUndefined();
    expect(read(established4.subarray(0, 71))).toBeUndefined();
    expect(
      read(answer({ family: '01', state: '01', source: four('00000000'), target: four('00000000') })),
    ).toBeUndefined();
  });

  test('is destroyed by its own name, cookie included', () => {
    const socket = read(established4);
    const writer = new MessageWriter();
    expect(writeDestroy(writer, socket!)).toBe(1);
    expect(lines(writer)).toEqual([`21 5 ${'02060000' + 'fe3f0000'}${hex(established4.subarray(4, 52))}`]);
  });
});

describe('whether a socket is concerned with an address', () => {
  const at = (localAddress: string, ipv6Only?: boolean): SocketInfo => ({
    ...read(established4)!,
    localAddress,
    ...(ipv6Only === undefined ? {} : { ipv6Only }),
  });
  test.each([
    [at('198.51.100.10'), '198.51.100.10', true],
    [at('198.51.100.11'), '198.51.100.10', false],
    [at('0.0.0.0'), '198.51.100.10', true],
    [at('0.0.0.0'), '2001:db8::10', false],
    [at('::', false), '198.51.100.10', true],
    [at('::', true), '198.51.100.10', false],
    [at('::', true), '2001:db8::10', true],
    [at('::'), '198.51.100.10', true],
  ])('%#', (socket, address, covered) => {
    expect(coversAddress(socket, address)).toBe(covered);
  });
});

const group = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(0xffff) });
property.prop([fc.array(group, { minLength: 8, maxLength: 8 })])('IPv6 text is that of src/net', (groups) => {
  const view = new DataView(new ArrayBuffer(20));
  groups.forEach((value, i) => view.setUint16(4 + 2 * i, value));
  const value = groups.reduce((sum, part) => (sum << 16n) | BigInt(part), 0n);
  expect(ipv6Text(view, 4)).toBe(addressFromBigInt(6, value));
});
