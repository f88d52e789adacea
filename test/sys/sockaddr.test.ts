import { expect, test } from 'vitest';
import {
  isBindablePort,
  portIn,
  sockaddr4,
  sockaddr6,
  sockaddrAbstract,
  sockaddrOf,
  sockaddrUnix,
} from '../../src/sys/sockaddr.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const address6 = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10);

test('an IPv4 address and port become a sockaddr_in, from a number or from bytes', () => {
  const expected = '0200' + '2328' + 'c633640a' + '0000000000000000';
  expect(hex(sockaddr4(0xc633640a, 9000))).toBe(expected);
  expect(hex(sockaddrOf(Uint8Array.of(198, 51, 100, 10), 9000))).toBe(expected);
  // Above 127.255.255.255 a 32-bit shift would be negative.
  expect(hex(sockaddrOf(Uint8Array.of(255, 255, 255, 255), 65_535))).toBe('0200ffffffffffff' + '0000000000000000');
});

test('an IPv6 address and port become a sockaddr_in6, without flow label and scope', () => {
  const expected = '0a00' + '2328' + '00000000' + '20010db8000000000000000000000010' + '00000000';
  expect(hex(sockaddr6(address6, 9000))).toBe(expected);
  expect(hex(sockaddrOf(address6, 9000))).toBe(expected);
});

test('nothing of an earlier address is left in a later one', () => {
  sockaddr6(new Uint8Array(16).fill(0xff), 65_535);
  expect(hex(sockaddr6(new Uint8Array(16), 1))).toBe('0a00' + '0001' + '00000000' + '00'.repeat(16) + '00000000');
  for (const length of [0, 3, 5, 15, 17])
    expect(() => sockaddrOf(new Uint8Array(length), 1)).toThrow(`an IPv6 address has 16 bytes, not ${length}`);
});

test('the port is read back from either family', () => {
  for (const port of [0, 1, 255, 256, 9000, 65_535]) {
    expect(portIn(sockaddr4(0, port))).toBe(port);
    expect(portIn(sockaddr6(address6, port))).toBe(port);
  }
});

test('a port can be asked for from 1 to 65535', () => {
  expect([1, 9000, 65_535].every(isBindablePort)).toBe(true);
  expect([0, -1, 65_536, 1.5, NaN, Infinity].some(isBindablePort)).toBe(false);
});

test('a path becomes a sockaddr_un with its zero byte, and one that does not fit is refused', () => {
  const sockaddr = sockaddrUnix('/run/x');
  expect(sockaddr.length).toBe(110);
  expect(hex(sockaddr.subarray(0, 9))).toBe('0100' + '2f72756e2f78' + '00');
  expect(hex(sockaddrUnix('x'.repeat(107)).subarray(108))).toBe('7800');
  for (const path of ['', 'x'.repeat(108), 'ü'.repeat(54), 'a\0b'])
    expect(() => sockaddrUnix(path)).toThrow('sockaddr_un: EINVAL');
});

test('a name of the network namespace begins with a zero byte and ends with itself, and one that does not fit is refused', () => {
  expect(hex(sockaddrAbstract('x'))).toBe('0100' + '00' + '78');
  expect(sockaddrAbstract('x'.repeat(107)).length).toBe(110);
  for (const name of ['', 'x'.repeat(108)]) expect(() => sockaddrAbstract(name)).toThrow('sockaddr_un: EINVAL');
});
