import { describe, expect, test } from 'vitest';
import { listenerFilter, type FilterStep } from '../../src/sys/netlink-listener.ts';
import { rtm } from '../../src/sys/route-message.ts';

/** What the kernel does with such a program: 0 drops. */
function run(program: readonly FilterStep[], packet: Uint8Array): number {
  const view = new DataView(packet.buffer);
  let loaded = 0;
  for (let at = 0; ; at++) {
    const step = program[at];
    if (!step) throw new Error('ran off the end');
    const [code, ifTrue, ifFalse, value] = step;
    if (code === 0x06) return value;
    if (code === 0x20) loaded = view.getUint32(value);
    else if (code === 0x28) loaded = view.getUint16(value);
    else if (code === 0x30) loaded = view.getUint8(value);
    else if (code === 0x15) at += loaded === value ? ifTrue : ifFalse;
    else throw new Error(`unknown code ${code}`);
  }
}

function message(type: number, portid: number, table = 0): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint16(4, type, true);
  view.setUint32(12, portid, true);
  bytes[20] = table;
  return bytes;
}

describe('the filter of a listener', () => {
  const passes = (program: readonly FilterStep[], packet: Uint8Array) => run(program, packet) !== 0;

  test.each([[[4_711]], [[1, 0xfedc_ba98, 4_711]]])('drops what its own sockets %j did', (own) => {
    for (const tables of [[], [100], [5_000], [100, 101, 5_000]]) {
      const program = listenerFilter(own, tables);
      for (const portid of own)
        for (const type of [rtm.newRule, rtm.newRoute]) expect(passes(program, message(type, portid, 100))).toBe(false);
      expect(passes(program, message(rtm.newRule, 4_712))).toBe(true);
      expect(passes(program, message(rtm.delAddress, 0))).toBe(true);
    }
  });

  test('drops routes of other tables, and nothing else of theirs', () => {
    const program = listenerFilter([7], [100]);
    for (const type of [rtm.newRoute, rtm.delRoute]) {
      expect(passes(program, message(type, 9, 100))).toBe(true);
      expect(passes(program, message(type, 9, 254))).toBe(false);
    }
    expect(passes(program, message(rtm.newLink, 9, 254))).toBe(true);
    // A table that does not fit into a byte is told as 252 there.
    const large = listenerFilter([7], [5_000]);
    expect(passes(large, message(rtm.newRoute, 9, 252))).toBe(true);
    expect(passes(large, message(rtm.newRoute, 9, 100))).toBe(false);
  });

  test.each([[[100, 101]], [[100, 5_000, 7]]])('keeps the routes of every table of several: %j', (tables) => {
    const program = listenerFilter([7], tables);
    for (const table of tables)
      for (const type of [rtm.newRoute, rtm.delRoute])
        expect(passes(program, message(type, 9, Math.min(table, 252)))).toBe(true);
    expect(passes(program, message(rtm.newRoute, 9, 254))).toBe(false);
    expect(passes(program, message(rtm.delRoute, 9, 99))).toBe(false);
    expect(passes(program, message(rtm.newRule, 9))).toBe(true);
  });
});
