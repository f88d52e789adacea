import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { AddressBook } from '../../../src/fish/packet/address-book.ts';
import { BlockTable, type LeasedBlock } from '../../../src/fish/ports/blocks.ts';
import { FlowMemory, leaseBytes_max, type BlockColumns } from '../../../src/fish/flows/flow-memory.ts';
import { PortSpace, stepThrough } from '../../../src/fish/ports/port-space.ts';
import { block, shared } from '../../support/fish.ts';
import { addressNumber } from '../../support/packets.ts';

const address = '198.51.100.10';
const rows = (blocksMax: number): BlockColumns =>
  FlowMemory.local({ flowsMax: 1, blocksMax, peersMax: 0, addressesMax: 0 }).columns.blocks;
const noBook = new AddressBook(new Uint32Array(0), () => 0);
const reasonsFor = (blocks: LeasedBlock[], slots = 8) =>
  new BlockTable(rows(slots), noBook).replace(blocks).refused.map((each) => each.reason);

describe('the block table', () => {
  test.each([
    ['an IPv6 address', block('2001:db8::10', 'tcp', 9_000, 9_000), 'no client prefix is one of IPv6'],
    ['no address', block('0.0.0.0', 'icmp', 0, 3), '0.0.0.0 is no address to send from'],
    ['three ports', block(address, 'tcp', 9_000, 9_002), 'the ports are not an aligned power-of-two block'],
    ['two ports, unaligned', block(address, 'tcp', 9_001, 9_002), 'the ports are not an aligned power-of-two block'],
    ['port 0', block(address, 'udp', 0, 127), 'port 0 cannot be sent from'],
    ['shared UDP', block(address, 'udp', 9_000, 9_000, shared()), 'only TCP blocks can be shared'],
    [
      'a shared block without a binding',
      block(address, 'tcp', 9_000, 9_000, { mode: 'shared' }),
      'a shared block needs a binding',
    ],
  ])('refuses %s and says why', (_what, refusable, reason) => {
    expect(reasonsFor([refusable, block(address, 'tcp', 1_024, 1_151)])).toEqual([reason]);
  });

  test('accepts identifier 0 of ICMP', () => {
    expect(reasonsFor([block(address, 'icmp', 0, 127)])).toEqual([]);
  });

  test('refuses what overlaps an accepted block of the same address and protocol only', () => {
    expect(
      reasonsFor([
        block(address, 'tcp', 9_088, 9_215),
        block(address, 'tcp', 9_152, 9_159),
        block(address, 'udp', 9_152, 9_159),
        block('198.51.100.11', 'tcp', 9_152, 9_159),
      ]),
    ).toEqual(['it overlaps 9088-9215 of tcp-9088']);
  });

  test('refuses more blocks than it has slots, until others go', () => {
    const table = new BlockTable(rows(2), noBook);
    const [a, b, c] = [9_000, 9_001, 9_002].map((port) => block(address, 'tcp', port, port));
    expect(table.replace([a!, b!, c!]).refused).toEqual([{ block: c, reason: 'there are 2 blocks already' }]);
    expect(table.replace([b!, c!])).toEqual({ added: 1, refused: [] });
    expect(table.list()).toEqual([b, c]);
  });

  test('keeps the slots of blocks that stay, and counts a block once that is listed twice', () => {
    const table = new BlockTable(rows(4), noBook);
    const [a, b, c] = [9_000, 9_001, 9_002].map((port) => block(address, 'tcp', port, port));
    expect(table.replace([a!, b!, b!])).toEqual({ added: 2, refused: [] });
    const before = table.slots().find((slot) => table.at(slot) === b);
    expect(table.removedBy([b!, c!]).map((slot) => table.at(slot))).toEqual([a]);
    table.replace([b!, c!]);
    expect(table.at(before!)).toEqual(b);
    expect(() => table.at(3)).toThrow('no block in slot 3');
  });

  test('takes a block that changed in any way for another one', () => {
    const table = new BlockTable(rows(4), noBook);
    const given = block(address, 'tcp', 9_000, 9_007);
    table.replace([given]);
    for (const change of [
      { lease: 'other' },
      shared('late'),
      shared('explicit'),
      { ports: { first: 9_000, last: 9_003 } },
    ])
      expect(table.removedBy([{ ...given, ...change }])).toHaveLength(1);
    expect(table.removedBy([{ ...given }])).toEqual([]);
  });

  test('knows the leased addresses, and the ports per protocol', () => {
    const table = new BlockTable(rows(4), noBook);
    table.replace([block(address, 'tcp', 9_000, 9_007), block('198.51.100.11', 'udp', 128, 255)]);
    expect(
      [address, '198.51.100.11', '198.51.100.12'].map((each) => table.leasedAddresses.has(addressNumber(each))),
    ).toEqual([true, true, false]);
    expect([1, 6, 17].map((protocol) => table.spaceFor(protocol)?.whole.total)).toEqual([undefined, 8, 128]);
  });
});

describe('the port space', () => {
  const sizes = fc.array(
    fc.nat({ max: 7 }).map((order) => 2 ** order),
    { minLength: 1, maxLength: 20 },
  );
  test.prop([sizes, fc.nat(), fc.nat()])(
    'is walked through completely from any start, each port once',
    (ports, start, random) => {
      const space = new PortSpace(ports.map((count, slot) => ({ slot, address: 7, ports: count })));
      const seen = new Set<string>();
      const { total } = space.whole;
      const step = stepThrough(total, random);
      for (let i = 0, port = start % total; i < total; i++, port = (port + step) % total) {
        const index = space.indexOf(port);
        const offset = space.offsetIn(index, port);
        expect(offset).toBeGreaterThanOrEqual(0);
        expect(offset).toBeLessThan(ports[space.slotAt(index)]!);
        seen.add(`${space.slotAt(index)} ${offset}`);
      }
      expect(seen.size).toBe(total);
      expect(total).toBe(ports.reduce((sum, each) => sum + each, 0));
    },
  );
});

describe('the ports of one address', () => {
  test('lie together, whatever their blocks, and are walked through on their own', () => {
    const space = new PortSpace([7, 9, 7, 8, 9].map((address, slot) => ({ slot, address, ports: 2 ** (slot % 3) })));
    const slotsOf = (address: number) => {
      const { first, total } = space.ofAddress(address)!;
      const step = stepThrough(total, 1);
      const ports = Array.from({ length: total }, (_, i) => first + ((i * step) % total));
      return ports.map((port) => space.slotAt(space.indexOf(port))).toSorted();
    };
    expect(slotsOf(7)).toEqual([0, 2, 2, 2, 2]);
    expect(slotsOf(8)).toEqual([3]);
    expect(slotsOf(9)).toEqual([1, 1, 4, 4]);
    expect(space.ofAddress(6)).toBeUndefined();
  });
});

describe('blocks that a successor takes over', () => {
  const ofEachKind = [
    block(address, 'tcp', 9_000, 9_007, shared('late')),
    block(address, 'tcp', 9_008, 9_015, shared('explicit')),
    block(address, 'tcp', 9_016, 9_016, { lease: 'x'.repeat(leaseBytes_max) }),
    block('255.255.255.254', 'udp', 65_535, 65_535),
    block('0.0.0.1', 'icmp', 0, 3),
  ];

  test('are the same, in the same slots, with nothing left of those that went', () => {
    const memory = rows(8);
    const first = new BlockTable(memory, noBook);
    first.replace([block(address, 'udp', 1_024, 1_031), ...ofEachKind]);
    first.replace(ofEachKind);
    const second = new BlockTable(memory, noBook);
    expect(second.adopt()).toBe(0);
    expect(second.slots().map((slot) => [slot, second.at(slot)])).toEqual(
      first
        .slots()
        .toSorted((a, b) => a - b)
        .map((slot) => [slot, first.at(slot)]),
    );
    expect(second.removedBy(ofEachKind)).toEqual([]);
    expect(second.leasedAddresses.has(addressNumber(address))).toBe(true);
    expect(second.spaceFor(6)?.whole.total).toBe(17);
  });

  test('are not remembered when their lease has a name that does not fit', () => {
    const memory = rows(8);
    for (const lease of ['x'.repeat(leaseBytes_max + 1), 'läase', ''])
      new BlockTable(memory, noBook).replace([block(address, 'tcp', 9_000, 9_007, { lease })]);
    const second = new BlockTable(memory, noBook);
    expect([second.adopt(), second.slots()]).toEqual([0, []]);
  });

  test.prop([fc.array(fc.record({ at: fc.nat(), value: fc.nat({ max: 255 }) }), { maxLength: 12 })])(
    'are possible ones and do not overlap, whatever became of the memory',
    (changes) => {
      const memory = rows(8);
      new BlockTable(memory, noBook).replace(ofEachKind);
      const all = Object.values(memory).map(
        (column) => new Uint8Array(column.buffer, column.byteOffset, column.byteLength),
      );
      for (const { at, value } of changes) {
        const column = all[at % all.length]!;
        column[Math.floor(at / all.length) % column.length] = value;
      }
      const second = new BlockTable(memory, noBook);
      const refused = second.adopt();
      expect(refused + second.slots().length).toBeLessThanOrEqual(8);
      // What it has is what it would have taken from the server, too.
      expect(reasonsFor(second.list())).toEqual([]);
      // And what it refused is gone for good.
      expect(new BlockTable(memory, noBook).adopt()).toBe(0);
    },
  );
});
