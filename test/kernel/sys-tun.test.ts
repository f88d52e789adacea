import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLab, type Lab } from './support/sys-lab.ts';

const here = '198.51.100.10';
/** Behind the TUN: nobody there but the test. */
const beyond = '100.64.0.5';
const [plain, offloading] = [
  { persist: true, offload: false },
  { persist: true, offload: true },
];

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('tun');
});
afterAll(() => lab.close());

async function up(name: string): Promise<void> {
  lab.host.shell(`ip link set ${name} up && ip route replace 100.64.0.0/10 dev ${name}`);
}
const exists = (name: string) => lab.host.shell(`ip -br link show ${name} 2>/dev/null | wc -l`) === '1';

describe('a TUN with offloads', () => {
  beforeAll(async () => {
    expect(await lab.host.call('openTun', 'fishtun0', offloading)).toEqual({
      vnetHeaderBytes: 10,
      offloads: ['csum', 'tso4', 'tso6', 'uso4', 'uso6'],
    });
    await up('fishtun0');
  });
  afterAll(async () => {
    await lab.host.call('closeTun', 'fishtun0');
    await lab.host.call('removeTun', 'fishtun0');
  });

  test('queues as many packets as it is told to', async () => {
    expect(await lab.host.call('queueLength', 'fishtun0')).toBe(500);
    await lab.host.call('queueLength', 'fishtun0', 4_096);
    expect(await lab.host.call('queueLength', 'fishtun0')).toBe(4_096);
    expect(lab.host.shell('ip link show fishtun0')).toContain('qlen 4096');
    await expect(lab.host.call('queueLength', 'nodevice')).rejects.toThrow('SIOCGIFTXQLEN');
  });

  test('takes packets as large as it is told to', async () => {
    expect(await lab.host.call('deviceMtu', 'fishtun0')).toBe(1_500);
    await lab.host.call('deviceMtu', 'fishtun0', 9_000);
    expect(lab.host.shell('ip link show fishtun0')).toContain('mtu 9000');
    await lab.host.call('deviceMtu', 'fishtun0', 1_500);
    await expect(lab.host.call('deviceMtu', 'nodevice')).rejects.toThrow('SIOCGIFMTU');
  });

  test('hands out a packet behind a 10-byte header that says where its checksum belongs', async () => {
    const [packet] = await lab.host.call('packetsOf', 'fishtun0', here, beyond, 100, 0);
    expect(packet?.length).toBe(10 + 20 + 8 + 100);
    const view = new DataView(packet!.buffer, packet!.byteOffset);
    const header = { flags: view.getUint8(0), gso: view.getUint8(1), start: view.getUint16(6, true) };
    expect(header).toEqual({ flags: 1 /* NEEDS_CSUM */, gso: 0, start: 20 });
    expect([...packet!.subarray(10 + 12, 10 + 20)]).toEqual([198, 51, 100, 10, 100, 64, 0, 5]);
  });

  test('hands out many datagrams as one segmentation-offload packet, and takes such a packet back', async () => {
    const [packet, ...more] = await lab.host.call('packetsOf', 'fishtun0', here, beyond, 5000, 1000);
    expect(more).toEqual([]);
    expect(packet?.length).toBe(10 + 28 + 5000);
    const view = new DataView(packet!.buffer, packet!.byteOffset);
    expect({ gso: view.getUint8(1), size: view.getUint16(4, true) }).toEqual({ gso: 5 /* UDP_L4 */, size: 1000 });
    expect(await lab.host.call('roundTrip', 'fishtun0', here, beyond, 5000, 1000)).toEqual({
      read: 10 + 28 + 5000,
      written: 10 + 28 + 5000,
      sizes: [1000, 1000, 1000, 1000, 1000],
    });
  });

  test('says -EAGAIN when no packet waits and -EINVAL to a packet that makes no sense', async () => {
    await lab.host.call('nextPacket', 'fishtun0', 200);
    expect(await lab.host.call('readEmptyTun', 'fishtun0')).toBe('EAGAIN');
    expect(await lab.host.call('writePacket', 'fishtun0', new Uint8Array(40).fill(0xff))).toBe(-22);
    await expect(lab.host.call('writeTooMuch', 'fishtun0')).rejects.toThrow('41 bytes of a buffer of 40');
  });
});

describe('a persistent TUN', () => {
  test('outlives its owner and is taken up again, with whatever header the new owner wants', async () => {
    await lab.host.call('openTun', 'fishtun1', offloading);
    const index = lab.host.shell('cat /sys/class/net/fishtun1/ifindex');
    await lab.host.call('closeTun', 'fishtun1');
    expect(lab.host.shell('cat /sys/class/net/fishtun1/ifindex')).toBe(index);

    // The last owner took unfinished checksums and bundles; this one has no header to read about them in.
    expect(await lab.host.call('openTun', 'fishtun1', plain)).toEqual({ vnetHeaderBytes: 0, offloads: [] });
    await up('fishtun1');
    const packets = await lab.host.call('packetsOf', 'fishtun1', here, beyond, 3000, 1000);
    expect(packets.map((packet) => packet.length)).toEqual([1028, 1028, 1028]);
    expect(await lab.host.call('roundTrip', 'fishtun1', here, beyond, 100, 0)).toEqual({
      read: 128,
      written: 128,
      sizes: [100],
    });
    await lab.host.call('closeTun', 'fishtun1');

    expect(await lab.host.call('openTun', 'fishtun1', offloading)).toMatchObject({ vnetHeaderBytes: 10 });
    const [bundle] = await lab.host.call('packetsOf', 'fishtun1', here, beyond, 3000, 1000);
    expect(bundle?.length).toBe(10 + 28 + 3000);
    await lab.host.call('closeTun', 'fishtun1');
    await lab.host.call('removeTun', 'fishtun1');
    expect(exists('fishtun1')).toBe(false);
  });

  test('goes away with its last owner once that opened it as not persistent', async () => {
    await lab.host.call('openTun', 'fishtun2', plain);
    await lab.host.call('closeTun', 'fishtun2');
    expect(exists('fishtun2')).toBe(true);
    await lab.host.call('openTun', 'fishtun2', { persist: false, offload: false });
    await lab.host.call('closeTun', 'fishtun2');
    expect(exists('fishtun2')).toBe(false);
  });

  test('is neither opened nor removed while somebody has it', async () => {
    await lab.host.call('openTun', 'fishtun3', plain);
    const second = lab.host.call('openTun', 'fishtun3', plain);
    await expect(second).rejects.toThrow('TUNSETIFF: EBUSY (fishtun3: another process has it)');
    await expect(lab.host.call('removeTun', 'fishtun3')).rejects.toThrow('EBUSY');
    await lab.host.call('closeTun', 'fishtun3');
    await lab.host.call('removeTun', 'fishtun3');
    expect(exists('fishtun3')).toBe(false);
  });
});

test('the calls around a packet allocate nothing', async () => {
  await lab.host.call('openTun', 'fishtun5', offloading);
  expect(await lab.host.call('heapOfPacketCalls', 'fishtun5')).toBeLessThan(16);
  await lab.host.call('closeTun', 'fishtun5');
  await lab.host.call('removeTun', 'fishtun5');
});

test('removing a TUN that does not exist is fine', async () => {
  await lab.host.call('removeTun', 'fishtun9');
  expect(exists('fishtun9')).toBe(false);
});

test('a name that is no device name, or that of another kind of device, is refused and nothing is left', async () => {
  const before = await lab.host.call('openDescriptors');
  for (const name of ['', '.', 'a b', 'tun%d', 'eth/0', 'sixteen-letters-', 'fünfzehn-zeichen'])
    await expect(lab.host.call('openTun', name, plain)).rejects.toThrow('TUNSETIFF: EINVAL');
  await expect(lab.host.call('openTun', 'h0', plain)).rejects.toThrow('TUNSETIFF: EINVAL');
  expect(lab.host.shell('ip -br link')).not.toContain('tun');
  expect(await lab.host.call('openDescriptors')).toBe(before);
});

test('a thousand openings leave no descriptor behind', async () => {
  const before = await lab.host.call('openDescriptors');
  await lab.host.call('openTun', 'fishtun4', plain);
  expect(await lab.host.call('openDescriptors')).toBe(before + 1);
  expect(await lab.host.call('reopenTun', 'fishtun4', 1000)).toBe(0);
  await lab.host.call('closeTun', 'fishtun4');
  await lab.host.call('removeTun', 'fishtun4');
  expect(await lab.host.call('openDescriptors')).toBe(before);
});
