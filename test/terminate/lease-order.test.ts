import { describe, expect, it } from 'vitest';
import type { Address } from '../../src/net/address.ts';
import { leasesFor } from '../../src/terminate/lease-order.ts';
import type { UsableLease } from '../../src/terminate/protocol.ts';

const lease = (number: number, address: string): UsableLease => ({
  id: `lease-${number}`,
  protocol: 'tcp',
  state: 'active',
  address,
  ports: { first: 8_192, last: 8_319 },
  binding: 'late',
});
const leases = Array.from({ length: 16 }, (_, i) => lease(i, `198.51.100.${i % 4}`));
const client = (i: number) => `100.64.${i >> 8}.${i & 255}` as Address;
const first = (all: readonly UsableLease[], i: number) => leasesFor(client(i), all, 8)[0];

describe('the leases that a client tries', () => {
  it('are of its family, and no more than asked for', () => {
    const both = [...leases, lease(99, '2001:db8:a::1')];
    expect(leasesFor('2001:db8::7' as Address, both, 8).map(({ id }) => id)).toEqual(['lease-99']);
    expect(leasesFor(client(1), both, 8)).toHaveLength(8);
    expect(leasesFor('2001:db8::7' as Address, leases, 8)).toEqual([]);
  });

  it('stay the same, whatever order they come in; all of one address come before the next', () => {
    const order = leasesFor(client(1), leases, 16);
    expect(leasesFor(client(1), leases.toReversed(), 16)).toEqual(order);
    const addresses = order.map(({ address }) => address);
    expect(addresses.filter((each, i) => each !== addresses[i - 1])).toHaveLength(4);
  });

  it('are spread over clients', () => {
    const counts = Map.groupBy(
      Array.from({ length: 400 }, (_, i) => first(leases, i)?.address),
      (each) => each,
    );
    expect(counts.size).toBe(4);
    for (const each of counts.values()) expect(each.length).toBeGreaterThan(50);
  });

  it('change for those clients only whose lease has gone', () => {
    const gone = leases.slice(1);
    for (let i = 0; i < 200; i++)
      if (first(leases, i)?.id !== 'lease-0') expect(first(gone, i)).toEqual(first(leases, i));
  });
});
