import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { concatKey, hostOrder32, portField, protocolField } from '../../src/sys/nft-elements.ts';
import { createLab, type Lab } from './support/sys-lab.ts';

const block = (last: number, port: number) =>
  concatKey(Uint8Array.of(198, 51, 100, last), protocolField(6), portField(port));
const alive = hostOrder32(0);

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('nft');
});
afterAll(() => lab.close());
beforeEach(() => {
  lab.host.shell(
    'nft -f -',
    `table inet fs_test
    delete table inet fs_test
    table inet fs_test {
      set own { type ipv4_addr . inet_proto . inet_service; }
      set own6 { type ipv6_addr . inet_proto . inet_service . uid; }
      set alive { type mark; flags timeout; }
      chain out {
        type filter hook output priority 0;
        meta l4proto udp udp sport 9400 meta mark & 0x0 != @alive drop
      }
    }\n`,
  );
});

const listed = (set: string) =>
  /elements = \{([^}]*)\}/
    .exec(lab.host.shell(`nft -n list set inet fs_test ${set}`))?.[1]
    ?.split(',')
    .map((element) => element.trim());

describe('elements of a set', () => {
  test('added here are what nft itself sees, in both families and with a user id', async () => {
    await lab.host.call('nftAdd', 'own', [block(10, 9088), block(11, 9216)]);
    expect(listed('own')?.toSorted()).toEqual(['198.51.100.10 . 6 . 9088', '198.51.100.11 . 6 . 9216']);
    const address = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10);
    const key = concatKey(address, protocolField(17), portField(9088), hostOrder32(1000));
    await lab.host.call('nftAdd', 'own6', [key]);
    expect(listed('own6')).toEqual(['2001:db8::10 . 17 . 9088 . 1000']);
    expect(await lab.host.call('nftList', 'own6')).toEqual([key]);
  });

  test('that nft added are listed here', async () => {
    lab.host.shell('nft add element inet fs_test own { 198.51.100.10 . tcp . 9000, 198.51.100.11 . tcp . 9128 }');
    const keys = await lab.host.call('nftList', 'own');
    expect(keys.map((key) => Buffer.from(key).toString('hex')).toSorted()).toEqual(
      [block(10, 9000), block(11, 9128)].map((key) => Buffer.from(key).toString('hex')).toSorted(),
    );
    expect(await lab.host.call('nftList', 'alive')).toEqual([]);
  });

  test('may be added twice', async () => {
    await lab.host.call('nftAdd', 'own', [block(10, 9088)]);
    await lab.host.call('nftAdd', 'own', [block(10, 9088), block(10, 9216)]);
    expect(listed('own')).toHaveLength(2);
  });

  test('are removed all or none: one that is missing refuses the transaction, unless it is told not to mind', async () => {
    await lab.host.call('nftAdd', 'own', [block(10, 9088), block(10, 9216)]);
    const keys = [block(10, 9088), block(10, 1)];
    const refused = lab.host.call('nftRemove', 'own', keys, 'refuse');
    await expect(refused).rejects.toThrow('nft remove: ENOENT (inet fs_test own');
    expect(listed('own')).toHaveLength(2);
    await lab.host.call('nftRemove', 'own', keys, 'ignore');
    expect(listed('own')).toEqual(['198.51.100.10 . 6 . 9216']);
    await lab.host.call('nftRemove', 'own', [block(10, 9216)], 'refuse');
    expect(listed('own')).toBeUndefined();
  });

  test('of several sets change in one transaction, or none do', async () => {
    await lab.host.call('nftAdd', 'own', [block(10, 9088)]);
    const move = [
      { change: 'remove', set: 'own', keys: [block(10, 9088)] },
      { change: 'add', set: 'own', keys: [block(11, 9088)] },
      { change: 'renew', set: 'alive', key: alive, timeoutMs: 60_000 },
    ] as const;
    const refused = lab.host.call('nftCommit', [...move, { change: 'add', set: 'nowhere', keys: [alive] }]);
    await expect(refused).rejects.toThrow('ENOENT');
    expect(listed('own')).toEqual(['198.51.100.10 . 6 . 9088']);
    expect(await lab.host.call('nftList', 'alive')).toEqual([]);
    await lab.host.call('nftCommit', move);
    expect(listed('own')).toEqual(['198.51.100.11 . 6 . 9088']);
    expect(await lab.host.call('nftList', 'alive')).toEqual([alive]);
  });

  test('of no number at all are no transaction', async () => {
    await lab.host.call('nftAdd', 'nowhere', []);
    expect(listed('own')).toBeUndefined();
  });

  test('are refused with the reason: no such set, no such table, a key of the wrong length', async () => {
    await expect(lab.host.call('nftAdd', 'nowhere', [alive])).rejects.toThrow('nft add: ENOENT (inet fs_test nowhere');
    await expect(lab.host.call('nftRefused', 'fs_none', 'own')).rejects.toThrow('nft list: ENOENT (inet fs_none own');
    await expect(lab.host.call('nftAdd', 'own', [alive])).rejects.toThrow('nft add: EINVAL (inet fs_test own');
    // An earlier refusal leaves nothing behind that a later call could take for its own answer.
    await lab.host.call('nftAdd', 'own', [block(10, 9088)]);
    expect(listed('own')).toHaveLength(1);
  });

  // Several rounds, because the kernel's table grows and shrinks under the listing, which must show in none of them.
  test.each([10_000, 10_000, 50_000, 50_000, 50_000])(
    'in a number of %i go in, are listed and go out',
    async (count) => {
      expect(await lab.host.call('nftMany', 'own', count)).toEqual({ listed: count, found: count, left: 0, leak: 0 });
    },
  );
});

describe('renewing an element with a timeout', () => {
  const left = async () => (await lab.host.call('nftElements', 'alive'))[0];

  test('keeps it alive past its first timeout, and it goes by itself when nobody renews it', async () => {
    await lab.host.call('nftRenew', 'alive', alive, 2000);
    await sleep(1200);
    expect((await left())?.expiresMs).toBeLessThan(1000);
    await lab.host.call('nftRenew', 'alive', alive, 2000);
    const renewed = await left();
    expect(renewed?.timeoutMs).toBe(2000);
    expect(renewed?.expiresMs).toBeGreaterThan(1700);
    await sleep(1200);
    // 2.4 s after the first: it would be gone, had it not been renewed.
    expect(await lab.host.call('nftList', 'alive')).toEqual([alive]);
    await sleep(1000);
    expect(await lab.host.call('nftList', 'alive')).toEqual([]);
  });

  test('never makes it permanent, not even after it had been', async () => {
    await lab.host.call('nftAdd', 'alive', [alive]);
    expect(await lab.host.call('nftElements', 'alive')).toEqual([{ key: alive }]);
    for (const timeoutMs of [60_000, 2000, 2000]) await lab.host.call('nftRenew', 'alive', alive, timeoutMs);
    const renewed = await left();
    expect(renewed?.timeoutMs).toBe(2000);
    expect(renewed?.expiresMs).toBeLessThanOrEqual(2000);
    await sleep(2200);
    expect(await lab.host.call('nftList', 'alive')).toEqual([]);
  });

  test('brings an expired one back', async () => {
    await lab.host.call('nftRenew', 'alive', alive, 100);
    await sleep(200);
    expect(await lab.host.call('nftList', 'alive')).toEqual([]);
    await lab.host.call('nftRenew', 'alive', alive, 2000);
    expect((await left())?.expiresMs).toBeGreaterThan(1700);
  });

  test('leaves no gap for a packet to fall into', async () => {
    await lab.host.call('nftRenew', 'alive', alive, 2000);
    const flood = await lab.host.call('nftFlood', alive, 1000);
    expect(flood.renewals).toBeGreaterThan(100);
    expect(flood.sent).toBeGreaterThan(2000);
    expect(flood.dropped).toBe(0);
  });

  test('is what the rule depends on: without the element every packet is dropped', async () => {
    const refused = await lab.host.call('plain', {
      address: '198.51.100.10',
      port: 9400,
      protocol: 'udp',
      remote: ['203.0.113.1', 9],
      send: true,
    });
    expect(refused).toBe('EPERM');
  });

  test('refuses a timeout that would mean for ever', async () => {
    for (const timeoutMs of [0, -1, 1.5, NaN])
      await expect(lab.host.call('nftRenew', 'alive', alive, timeoutMs)).rejects.toThrow('a timeout of');
    expect(await lab.host.call('nftList', 'alive')).toEqual([]);
  });
});
