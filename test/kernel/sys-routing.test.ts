import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rtm } from '../../src/sys/route-message.ts';
import { createLab, type Lab } from './support/sys-lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('routing');
});
afterAll(() => lab.close());

describe('rules', () => {
  test.each([4, 6] as const)('made here are what ip shows, and what is read back, IPv%i', async (family) => {
    const marked = { family, priority: 70, table: 200, mark: { value: 0x2a, mask: 0xff }, protocol: 70 };
    const entering = { family, priority: 71, table: 254, iif: 'h0', protocol: 70 };
    for (const rule of [marked, entering]) await lab.host.call('changeRule', 'add', rule);
    const shown = lab.host.shell(`ip -${family} rule`);
    expect(shown).toContain('70:\tfrom all fwmark 0x2a/0xff lookup 200 proto 70');
    expect(shown).toContain('71:\tfrom all iif h0 lookup main proto 70');
    const read = await lab.host.call('rulesOf', family);
    expect(read.filter(({ protocol }) => protocol === 70)).toEqual([
      { ...marked, others: {} },
      { ...entering, others: {} },
    ]);
    await expect(lab.host.call('changeRule', 'add', marked)).rejects.toThrow('EEXIST');
    for (const rule of [marked, entering]) await lab.host.call('changeRule', 'remove', rule);
    expect(lab.host.shell(`ip -${family} rule`)).not.toContain('proto 70');
    await expect(lab.host.call('changeRule', 'remove', marked)).rejects.toThrow('ENOENT');
  });

  test("of others say all that they look at, and not more than others' tools said", async () => {
    lab.host.shell(
      'ip rule add not from 10.0.0.0/8 fwmark 0x80000/0xff0000 uidrange 1-2 lookup 52 suppress_prefixlength 0 priority 5210',
    );
    const [rule] = (await lab.host.call('rulesOf', 4)).filter(({ priority }) => priority === 5_210);
    expect(rule).toMatchObject({
      table: 52,
      source: '10.0.0.0/8',
      mark: { value: 0x80000, mask: 0xff0000 },
      others: { not: null, uidrange: '0100000002000000', suppress_prefixlength: '00000000' },
    });
    const [plain] = (await lab.host.call('rulesOf', 4)).filter(({ priority }) => priority === 32_766);
    expect(plain).toEqual({ family: 4, priority: 32_766, protocol: 2, table: 254, others: {} });
    lab.host.shell('ip rule del priority 5210');
  });
});

describe('routes', () => {
  test.each([4, 6] as const)('made here are what ip shows, and what is read back, IPv%i', async (family) => {
    expect(await lab.host.call('routesOf', family, 200)).toEqual([]);
    const { index = 0 } = (await lab.host.call('link', { name: 'h0' })) ?? {};
    const base = { family, table: 200, protocol: 70 };
    const toDevice = { ...base, type: 1, link: index, metric: 1_024 };
    const nowhere = { ...base, type: 6, metric: 9_999 };
    for (const route of [toDevice, nowhere]) await lab.host.call('changeRoute', 'add', route);
    expect(lab.host.shell(`ip -${family} route show table 200`).replaceAll(/ +\n/g, '\n').split('\n')).toEqual(
      family === 4
        ? ['default dev h0 proto 70 scope link metric 1024', 'blackhole default proto 70 metric 9999']
        : [
            'default dev h0 proto 70 metric 1024 pref medium',
            'blackhole default dev lo proto 70 metric 9999 pref medium',
          ],
    );
    const read = await lab.host.call('routesOf', family, 200);
    expect(read).toMatchObject([
      { ...toDevice, destination: 'default' },
      { ...nowhere, destination: 'default' },
    ]);
    lab.host.shell(`ip -${family} route add ${family === 4 ? '203.0.113.64/26' : '2001:db8:7::/48'} dev h0 table 200`);
    const foreign = (await lab.host.call('routesOf', family, 200)).filter(({ protocol }) => protocol !== 70);
    expect(foreign.map(({ destination }) => destination)).toEqual([
      family === 4 ? '203.0.113.64/26' : '2001:db8:7::/48',
    ]);
    await expect(lab.host.call('changeRoute', 'add', nowhere)).rejects.toThrow('EEXIST');
    for (const route of [toDevice, nowhere]) await lab.host.call('changeRoute', 'remove', route);
    await expect(lab.host.call('changeRoute', 'remove', nowhere)).rejects.toThrow('ESRCH');
    lab.host.shell(`ip -${family} route flush table 200`);
  });
});

describe('addresses and links', () => {
  test('come and go', async () => {
    for (const address of ['198.51.100.77', '2001:db8::77']) {
      await lab.host.call('changeAddress', 'add', address);
      expect(lab.host.shell('ip -o addr show dev lo')).toMatch(new RegExp(`${address}/(32|128) scope global`));
      await expect(lab.host.call('changeAddress', 'add', address)).rejects.toThrow('EEXIST');
      await lab.host.call('changeAddress', 'remove', address);
      expect(lab.host.shell('ip -o addr show dev lo')).not.toContain(address);
    }
    const all = [...(await lab.host.call('addressesOf', 4)), ...(await lab.host.call('addressesOf', 6))];
    expect(all.filter(({ link }) => link === 1).map(({ address }) => address)).toEqual(
      expect.arrayContaining(['127.0.0.1', '198.51.100.10', '198.51.100.11', '::1', '2001:db8::10']),
    );
    expect(all.filter(({ link }) => link !== 1).map(({ address }) => address)).toEqual(
      expect.arrayContaining(['192.0.2.1', '2001:db8:1::1']),
    );
    expect(await lab.host.call('link', { name: 'nowhere' })).toBeUndefined();
    const link = await lab.host.call('link', { name: 'h0' });
    expect(link).toMatchObject({ name: 'h0', isUp: true });
    lab.host.shell('ip link set h0 down');
    expect(await lab.host.call('link', { index: link?.index ?? 0 })).toMatchObject({ isUp: false });
    await lab.host.call('linkUp', link?.index ?? 0);
    expect(await lab.host.call('link', { name: 'h0' })).toMatchObject({ isUp: true });
  });
});

describe('a listener', () => {
  test('hears what others change, not what its owner does, and not the routes of other tables', async () => {
    await lab.host.call('heard');
    await lab.host.call('changeRule', 'add', { family: 4, priority: 70, table: 200, protocol: 70 });
    lab.host.shell('ip route add 203.0.113.64/26 dev h0 table 201; ip route del 203.0.113.64/26 table 201');
    // A link that came up a moment ago gets an address by itself.
    const { types, missing } = await lab.host.call('heard');
    expect([types.filter((type) => type !== rtm.newAddress), missing]).toEqual([[], false]);
    lab.host.shell('ip rule del priority 70');
    lab.host.shell('ip route add 203.0.113.64/26 dev h0 table 200; ip -6 route add 2001:db8:9::/48 dev h0 table 200');
    expect((await lab.host.call('heard')).types.filter((type) => type !== rtm.newAddress)).toEqual([
      rtm.delRule,
      rtm.newRoute,
      rtm.newRoute,
    ]);
    lab.host.shell('ip route flush table 200; ip -6 route flush table 200');
    lab.host.shell('ip addr add 198.51.100.78/32 dev lo; ip addr del 198.51.100.78/32 dev lo');
    expect((await lab.host.call('heard')).types.slice(2)).toEqual([rtm.newAddress, rtm.delAddress]);
    expect(await lab.host.call('listenerLeak', 20)).toBe(0);
  });
});

describe('a table of nftables', () => {
  const text = `table inet fs_table {
    counter dropped {}
    set alive { type mark; flags timeout; }
    set own { type ipv4_addr . inet_service; }
    chain out {
      type filter hook output priority 0;
      ip daddr 192.0.2.2 counter name "dropped" accept
    }
  }\n`;

  test('keeps its digest while packets pass and elements come, and changes it with anything else', async () => {
    expect(await lab.host.call('nftLook')).toBeUndefined();
    lab.host.shell('nft -f -', text);
    const look = async () => (await lab.host.call('nftLook'))?.digest;
    const before = await look();
    expect((await lab.host.call('nftLook'))?.sets.toSorted()).toEqual(['alive', 'own']);
    lab.host.shell('ping -c 2 -i 0.2 192.0.2.2 >/dev/null; nft add element inet fs_table own { 198.51.100.10 . 1 }');
    lab.host.shell('nft add element inet fs_table alive { 0 timeout 1m }; nft add table inet fs_other');
    expect(await look()).toBe(before);
    expect(await lab.host.call('nftCounters')).toMatchObject([{ name: 'dropped', packets: 2, bytes: 168 }]);
    const seen = new Set([before]);
    for (const change of [
      'add rule inet fs_table out accept',
      'add chain inet fs_table empty',
      'add counter inet fs_table more',
      'add set inet fs_table third { type mark; }',
      'add table inet fs_table { flags dormant; }',
    ]) {
      lab.host.shell('nft -f -', `${change}\n`);
      seen.add(await look());
    }
    expect(seen.size).toBe(6);
    for (let twice = 0; twice < 2; twice++) await lab.host.call('nftRemoveTable');
    expect(lab.host.shell('nft list tables')).toBe('table inet fs_other');
    lab.host.shell('nft flush ruleset');
  });
});
