import { describe, expect, test } from 'vitest';
import { MessageWriter, messagesIn, type Message } from '../../src/sys/netlink-message.ts';
import {
  concatKey,
  hostOrder32,
  portField,
  protocolField,
  readElements,
  writeElementsDump,
  writeTransaction,
  type ElementChange,
  type NftElement,
} from '../../src/sys/nft-message.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The request as one line per message, without the length and sequence that every netlink message has. */
function transaction(...changes: ElementChange[]): string[] {
  const writer = new MessageWriter();
  const expected = writeTransaction(writer, 'fishery', changes);
  const messages = [...messagesIn(writer.buffer, writer.length)];
  expect(expected).toEqual(messages.slice(1, -1).map(({ sequence }) => sequence));
  return messages.map((message) => line(writer.buffer, message));
}
const line = (buffer: Uint8Array, { type, flags, from, to }: Message) =>
  `${type.toString(16)} ${flags.toString(16)} ${hex(buffer.subarray(from, to))}`;

const begin = '10 1 0000000a';
const end = '11 1 0000000a';
/** Table "fishery", set "own". */
const place = '01000000' + '0c000100' + '6669736865727900' + '08000200' + '6f776e00';

test('every field of a concatenated key is padded to four bytes', () => {
  const key = concatKey(Uint8Array.of(198, 51, 100, 10), protocolField(6), portField(9088), hostOrder32(1000));
  expect(hex(key)).toBe('c633640a' + '06000000' + '23800000' + 'e8030000');
  expect(hex(concatKey())).toBe('');
  expect(hex(hostOrder32(0xffffff80))).toBe('80ffffff');
});

describe('a transaction', () => {
  const [first, second] = [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(5, 6, 7, 8)];
  /** An element with a key of four bytes: LIST_ELEM { KEY { VALUE } }. */
  const element = (key: string) => '10000180' + '0c000180' + '08000100' + key;

  test('adds elements between the marks of a batch, and leaves the ones that exist alone', () => {
    expect(transaction({ change: 'add', set: 'own', keys: [first, second] })).toEqual([
      begin,
      `a0c 405 ${place}` + '24000380' + element('01020304') + element('05060708'),
      end,
    ]);
  });

  test('removes elements, strictly or not', () => {
    const list = '14000380' + element('01020304');
    expect(transaction({ change: 'remove', set: 'own', keys: [first] })[1]).toBe(`a0e 5 ${place}${list}`);
    expect(transaction({ change: 'discard', set: 'own', keys: [first] })[1]).toBe(`a1e 5 ${place}${list}`);
  });

  test('renews an element by replacing it with one that has a timeout and as long to live', () => {
    const [, away, back] = transaction({ change: 'renew', set: 'own', key: first, timeoutMs: 3000 });
    expect(away).toBe(`a1e 5 ${place}` + '14000380' + element('01020304'));
    const timeout = '0c000400' + '0000000000000bb8';
    const expiration = '0c000500' + '0000000000000bb8';
    expect(back).toBe(`a0c 405 ${place}2c000380` + '28000180' + '0c000180' + '0800010001020304' + timeout + expiration);
  });

  test('keeps the order of its changes', () => {
    const lines = transaction(
      { change: 'remove', set: 'own', keys: [first] },
      { change: 'add', set: 'own', keys: [] },
      { change: 'add', set: 'own', keys: [second] },
    );
    expect(lines.map((text) => text.split(' ')[0])).toEqual(['10', 'a0e', 'a0c', '11']);
  });

  test.each([1000, 4000, 20_000])('splits %i elements into messages whose list an attribute can hold', (count) => {
    for (const bytes of [4, 64]) {
      const keys = Array.from({ length: count }, (_, i) => concatKey(hostOrder32(i), new Uint8Array(bytes - 4)));
      const writer = new MessageWriter();
      writeTransaction(writer, 'fishery', [{ change: 'add', set: 'own', keys }]);
      const found: NftElement[] = [];
      const messages = [...messagesIn(writer.buffer, writer.length)];
      for (const message of messages) readElements(writer.buffer, message, found);
      expect(found.map(({ key }) => hex(key))).toEqual(keys.map(hex));
      expect(messages.length - 2).toBe(Math.ceil((count * (bytes + 12)) / 65_500));
    }
  });

  test('refuses a key that no set has, and a timeout that would mean for ever', () => {
    for (const length of [0, 65])
      expect(() => transaction({ change: 'add', set: 'own', keys: [new Uint8Array(length)] })).toThrow('a key of');
    for (const timeoutMs of [0, -1, 0.5, NaN, Infinity])
      expect(() => transaction({ change: 'renew', set: 'own', key: first, timeoutMs })).toThrow('a timeout of');
  });
});

describe('the elements in an answer', () => {
  const read = (payload: string): NftElement[] => {
    const buffer = new Uint8Array(Buffer.from('00000000'.repeat(4) + payload, 'hex'));
    const elements: NftElement[] = [];
    readElements(buffer, { type: 0xa0c, flags: 2, sequence: 1, from: 16, to: buffer.length }, elements);
    return elements;
  };

  test('have their timeouts, or none when they are permanent', () => {
    const timed =
      '28000180' + '0c000180' + '0800010001020304' + '0c0004000000000000000bb8' + '0c0005000000000100000001';
    const permanent = '10000180' + '0c000180' + '0800010005060708';
    expect(read(place + '3c000380' + timed + permanent)).toEqual([
      { key: Uint8Array.of(1, 2, 3, 4), timeoutMs: 3000, expiresMs: 2 ** 32 + 1 },
      { key: Uint8Array.of(5, 6, 7, 8) },
    ]);
  });

  test("do not include the set's catch-all, which has no key", () => {
    expect(read(place + '10000380' + '0c000180' + '0800030000000002')).toEqual([]);
  });

  test('are asked for by a dump', () => {
    const writer = new MessageWriter();
    writeElementsDump(writer, { table: 'fishery', set: 'own' });
    expect([...messagesIn(writer.buffer, writer.length)].map((message) => line(writer.buffer, message))).toEqual([
      `a0d 301 ${place}`,
    ]);
  });
});
