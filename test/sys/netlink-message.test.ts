import { fc, test as property } from '@fast-check/vitest';
import { describe, expect, test } from 'vitest';
import {
  acknowledgementIn,
  eachAttribute,
  MessageWriter,
  messagesIn,
  NLMSG_ERROR,
  requestBytes_max,
  type Message,
} from '../../src/sys/netlink-message.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const written = (writer: MessageWriter) => hex(writer.buffer.subarray(0, writer.length));

function attributes(buffer: Uint8Array, from = 0, to = buffer.length): [type: number, value: string][] {
  const found: [number, string][] = [];
  eachAttribute(buffer, from, to, (type, start, end) => found.push([type, hex(buffer.subarray(start, end))]));
  return found;
}

describe('writing', () => {
  test('messages follow one another, each with its length, flags and the next sequence number', () => {
    const writer = new MessageWriter();
    writer.begin(0x10, 0x1, Uint8Array.of(0, 0, 0, 10));
    writer.begin(0x11, 0x5, new Uint8Array(0));
    expect(written(writer)).toBe(
      '14000000 1000 0100 01000000 00000000 0000000a'.replaceAll(' ', '') +
        '10000000 1100 0500 02000000 00000000'.replaceAll(' ', ''),
    );
    writer.reset();
    expect(writer.begin(1, 1, new Uint8Array(0))).toBe(3);
    expect(writer.firstSequence).toBe(3);
    expect(writer.length).toBe(16);
  });

  test('attributes are padded to four bytes, which their length does not count and the message does', () => {
    const writer = new MessageWriter();
    writer.begin(1, 1, new Uint8Array(0));
    writer.textAttribute(1, 'own');
    writer.attribute(2, Uint8Array.of(1, 2, 3));
    writer.networkU64Attribute(4, 2 ** 32 + 3000);
    expect(written(writer).slice(32)).toBe(
      '08000100' + '6f776e00' + '07000200' + '01020300' + '0c000400' + '0000000100000bb8',
    );
    expect(written(writer).slice(0, 8)).toBe('2c000000');
  });

  test('a nested attribute has the length of all it holds, and the flag', () => {
    const writer = new MessageWriter();
    writer.begin(1, 1, new Uint8Array(0));
    const list = writer.open(3);
    const element = writer.open(1);
    writer.attribute(1, Uint8Array.of(7));
    writer.close(element);
    writer.close(list);
    expect(written(writer).slice(32)).toBe('10000380' + '0c000180' + '05000100' + '07000000');
  });

  test('no rest of an earlier request shows in the padding', () => {
    const writer = new MessageWriter();
    writer.begin(1, 1, new Uint8Array(64).fill(0xff));
    writer.reset();
    writer.begin(1, 1, new Uint8Array(0));
    writer.attribute(1, Uint8Array.of(1));
    expect(written(writer).slice(-8)).toBe('01000000');
  });

  test('more than an attribute or a request can hold is a bug', () => {
    const writer = new MessageWriter();
    writer.begin(1, 1, new Uint8Array(0));
    expect(() => writer.attribute(1, new Uint8Array(65_532))).toThrow('a netlink attribute of 65536 bytes');
    const list = writer.open(1);
    for (let i = 0; i < 2; i++) writer.attribute(1, new Uint8Array(40_000));
    expect(() => writer.close(list)).toThrow('a netlink attribute of');
    const fill = () => {
      for (let i = 0; i < 300; i++) writer.attribute(1, new Uint8Array(65_000));
    };
    expect(fill).toThrow(`a netlink request of more than ${requestBytes_max} bytes`);
  });

  property.prop([fc.array(fc.tuple(fc.nat(0x3fff), fc.uint8Array({ maxLength: 3000 })), { maxLength: 20 })])(
    'what is written is read again, however the buffer had to grow',
    (wanted) => {
      const writer = new MessageWriter();
      for (const [type, value] of wanted) {
        writer.begin(77, 1, new Uint8Array(0));
        writer.attribute(type, value);
      }
      const found = [...messagesIn(writer.buffer, writer.length)].flatMap(({ from, to }) =>
        attributes(writer.buffer, from, to),
      );
      expect(found).toEqual(wanted.map(([type, value]) => [type, hex(value)]));
    },
  );
});

describe('reading', () => {
  property.prop([fc.uint8Array({ maxLength: 200 })])('bytes without sense end the reading and never throw', (junk) => {
    for (const { from, to } of messagesIn(junk, junk.length)) {
      expect(to).toBeLessThanOrEqual(junk.length);
      attributes(junk, from, to);
    }
    attributes(junk);
  });

  test('a message that claims more than there is, is not read', () => {
    expect([...messagesIn(bytes('14000000 0200 0000 01000000 00000000'), 16)]).toEqual([]);
    expect([...messagesIn(bytes('00000000 0200 0000 01000000 00000000'), 16)]).toEqual([]);
  });

  test('the flags of an attribute are no part of its type', () => {
    expect(attributes(bytes('05000380 07000000 05000440 08000000'))).toEqual([
      [3, '07'],
      [4, '08'],
    ]);
  });
});

describe('what the kernel says about a request', () => {
  const answer = (flags: number, payload: string): [Uint8Array, Message] => {
    const buffer = bytes(payload);
    return [buffer, { type: NLMSG_ERROR, flags, sequence: 1, from: 0, to: buffer.length }];
  };
  const request = '14000000 0c0a 0504 02000000 00000000';
  const words = '0a000100 4e6f20736500 0000';

  test('0 is an acknowledgement', () => {
    expect(acknowledgementIn(...answer(0, `00000000 ${request}`))).toEqual({ errno: 0, text: '' });
  });

  test('a negative number is an errno', () => {
    expect(acknowledgementIn(...answer(0x100, `feffffff ${request}`))).toEqual({ errno: 2, text: '' });
  });

  test('its own words stand behind the header of the request, or behind all of it', () => {
    expect(acknowledgementIn(...answer(0x300, `feffffff ${request} ${words}`))).toEqual({ errno: 2, text: 'No se' });
    const whole = `feffffff ${request} 01000000 ${words}`;
    expect(acknowledgementIn(...answer(0x200, whole))).toEqual({ errno: 2, text: 'No se' });
  });

  test('an answer without a number is none', () => {
    expect(acknowledgementIn(...answer(0, ''))).toEqual({ errno: 0, text: '' });
  });
});
