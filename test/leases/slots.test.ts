import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { isWithheld } from '../../src/leases/carve-outs.ts';
import { slotAt, slotBeginningAt, slotCount, slotsAhead, slotTotal, type Slot } from '../../src/leases/slots.ts';
import { prefixContains } from '../../src/net/prefix.ts';
import type { CarveOut, Pool } from '../../src/leases/model.ts';
import { address, nobody, prefix } from '../support/world.ts';

const space = (prefixes: readonly string[], slicePorts: number, first: number, last: number) => ({
  prefixes: prefixes.map(prefix),
  carveOuts: [],
  slicePorts,
  usablePorts: { first, last },
});
const poolOf = (prefixes: readonly string[], slicePorts: number, cursors: readonly bigint[]): Pool => ({
  ...space(prefixes, slicePorts, 0, 65_535),
  ...{ id: 'p', labels: {}, sharedBlockPorts: 1, cooldownUs: { tcp: 0, udp: 0, icmp: 0 }, cursors, routers: nobody },
  ...{ createdAt: 0, updatedAt: 0, revision: 0 },
});

describe('the slots of a pool', () => {
  it.each([
    ['a default /24', ['198.51.100.0/24'], 2_048, 1_024, 65_535, 256n * 31n],
    ['the whole port space', ['198.51.100.0/32'], 65_536, 0, 65_535, 1n],
    ['a range that cuts slices on both sides', ['198.51.100.0/32'], 2_048, 3_000, 9_000, 2n],
    ['a range inside one slice', ['198.51.100.0/32'], 2_048, 2_049, 4_095, 0n],
    ['a /48, which nobody could enumerate', ['2001:db8::/48'], 2_048, 1_024, 65_535, (1n << 80n) * 31n],
    ['two prefixes', ['198.51.100.0/31', '2001:db8::/127'], 32_768, 0, 65_535, 8n],
  ])('are counted: %s', (_, prefixes, slicePorts, first, last, total) => {
    expect(slotTotal(space(prefixes, slicePorts, first, last))).toBe(total);
  });

  it('are whole aligned slices, ports first', () => {
    const pool = space(['198.51.100.0/31'], 16_384, 16_384, 65_535);
    const text = (slot: bigint) => {
      const found = slotAt(pool, 0, slot);
      return `${found.address} ${found.ports.first}-${found.ports.last}`;
    };
    expect([0n, 1n, 2n, 3n].map(text)).toEqual([
      '198.51.100.0 16384-32767',
      '198.51.100.0 32768-49151',
      '198.51.100.0 49152-65535',
      '198.51.100.1 16384-32767',
    ]);
    expect(() => slotAt(pool, 0, 6n)).toThrow('no slot 6');
    expect(() => slotAt(pool, 1, 0n)).toThrow('no slot 0');
  });

  test.prop([fc.constantFrom(0, 1), fc.bigInt({ min: 0n, max: (1n << 80n) * 31n - 1n })])(
    'are found by their address and first port',
    (which, slot) => {
      const pool = space(['198.51.100.0/24', '2001:db8::/48'], 2_048, 1_024, 65_535);
      const found = slotAt(pool, which, slot % slotCount(pool, which));
      expect(slotBeginningAt(pool, found.address, found.ports.first)).toEqual(found);
    },
  );

  it.each([
    ['another address', '198.51.101.0', 2_048],
    ['not aligned', '198.51.100.0', 2_049],
    ['cut off by the usable range', '198.51.100.0', 0],
    ['beyond the last port', '198.51.100.0', 65_536],
  ])('are nowhere else: %s', (_, text, first) => {
    expect(slotBeginningAt(space(['198.51.100.0/24'], 2_048, 1_024, 65_535), address(text), first)).toBeUndefined();
  });

  const carveOut = fc
    .record({
      host: fc.nat({ max: 15 }),
      bits: fc.nat({ max: 3 }),
      ports: fc.option(fc.tuple(fc.nat(65_535), fc.nat(65_535))),
    })
    .map(({ host, bits, ports }): CarveOut => {
      const range = ports && { first: Math.min(...ports), last: Math.max(...ports) };
      return { prefix: prefix(`198.51.100.${host & -(1 << bits)}/${32 - bits}`), ports: range };
    });

  test.prop([fc.array(carveOut, { maxLength: 4 }), fc.bigInt({ min: 0n, max: 70n })])(
    'that nothing carves out are counted and gone through, and no others',
    (carveOuts, cursor) => {
      const pool = { ...poolOf(['198.51.100.0/29', '198.51.100.8/30'], 8_192, [cursor, 0n]), carveOuts };
      const left = (which: number, from: bigint) =>
        Array.from({ length: Number(slotCount(pool, which)) }, (_, slot) => slotAt(pool, which, BigInt(slot))).filter(
          (slot) => slot.slot >= from && !isCarved(slot, carveOuts),
        );
      expect([...slotsAhead(pool, null)]).toEqual([...left(0, cursor), ...left(1, 0n)]);
      expect(slotTotal(pool)).toBe(BigInt(left(0, 0n).length + left(1, 0n).length));
      for (const slot of left(0, 0n)) expect(isWithheld(pool, slot)).toBe(false);
      for (const host of Array(16).keys()) {
        const place = { address: address(`198.51.100.${host}`), ports: { first: 8_192, last: 16_383 } };
        expect(isWithheld(pool, place)).toBe(host >= 12 || isCarved(place, carveOuts));
      }
    },
  );
  const isCarved = (place: Pick<Slot, 'address' | 'ports'>, carveOuts: readonly CarveOut[]): boolean =>
    carveOuts.some(
      ({ prefix: cut, ports }) =>
        prefixContains(cut, place.address) &&
        (ports === null || (ports.first <= place.ports.last && place.ports.first <= ports.last)),
    );

  it('are gone through from the cursors on, prefix by prefix, or one family of them', () => {
    const pool = poolOf(['198.51.100.0/32', '2001:db8::/128'], 32_768, [1n, 0n]);
    const texts = (family: 4 | 6 | null) =>
      [...slotsAhead(pool, family)].map((slot) => `${slot.address} ${slot.ports.first}`);
    expect(texts(null)).toEqual(['198.51.100.0 32768', '2001:db8:: 0', '2001:db8:: 32768']);
    expect(texts(4)).toEqual(['198.51.100.0 32768']);
    expect(texts(6)).toEqual(['2001:db8:: 0', '2001:db8:: 32768']);
  });
});
