import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { block, Pond } from '../support/fish.ts';
import { oneHopLater, translated } from '../support/naive-nat.ts';
import { identificationOf, joined, mayBeCut, renumbered } from '../support/cut-packets.ts';
import { bytesOf, checksumProblem, hexOf, read } from '../support/packets.ts';

const lines = (name: string) =>
  readFileSync(join(import.meta.dirname, 'captures', `${name}.txt`), 'utf8')
    .trimEnd()
    .split('\n');

/** As captured: the way, the packet before the kernel's NAT, and after it. */
const translations = (name: string) =>
  lines(name).map((line) => {
    const [way = '', before = '', after = ''] = line.split(' ');
    return { way, before: bytesOf(before), after: bytesOf(after) };
  });

// One port each, the one that the kernel's NAT was told to use.
const blocks = (['tcp', 'udp', 'icmp'] as const).map((protocol) => block('198.51.100.10', protocol, 9_000, 9_000));

describe('captured traffic leaves fish as it left the kernel’s own NAT, byte for byte', () => {
  test.each([
    ['tcp', 10],
    ['udp', 2],
    ['icmp', 2],
  ])('%s', (name, count) => {
    const captured = translations(name);
    expect(captured).toHaveLength(count);
    const pond = new Pond(blocks);
    for (const { before, after } of captured) {
      // Around its own NAT the kernel counts one hop. Around fish it counts two, and fish gives one back.
      const sent = pond.send(oneHopLater(before));
      expect(sent.verdict).toBe('forward');
      const bytes = oneHopLater(sent.bytes);
      // What may be cut has a number of its own; the kernel leaves the client's, also where two clients have the same.
      expect(hexOf(bytes)).toBe(hexOf(mayBeCut(after) ? renumbered(after, identificationOf(bytes)) : after));
    }
  });

  test('the captured connection is over after its last packet, and not before', () => {
    const pond = new Pond(blocks);
    const states = translations('tcp').map(({ before }) => {
      pond.send(before);
      return [...pond.forwarder.flows()].map((flow) => flow.state).join();
    });
    expect(states).toEqual([...Array<string>(9).fill('live'), 'resting']);
    expect(pond.forwarder.counters().flowsEnded).toMatchObject({ finished: 1, reset: 0, idle: 0 });
  });
});

describe('packets as segmentation offload makes them', () => {
  const [syn, segmented] = lines('offload').map(bytesOf);

  test('get the new pseudo-header sum, and keep their virtio header', () => {
    const pond = new Pond(blocks, { vnetHeaderBytes: 10 });
    const packets = [syn!, segmented!];
    expect(packets.map((each) => each.length)).toEqual([10 + 60, 10 + 4_199]);
    for (const packet of packets) {
      const [header, before] = [packet.slice(0, 10), packet.slice(10)];
      const { verdict, bytes } = pond.send(before, header);
      expect(verdict).toBe('forward');
      const to = { address: '198.51.100.10', port: 9_000 };
      expect(hexOf(bytes)).toBe(hexOf(translated(before, 'source', to, true)));
    }
  });

  test('are dropped when the header points at another checksum than their own', () => {
    const pond = new Pond(blocks, { vnetHeaderBytes: 10 });
    for (const [at, value] of [
      [6, 24],
      [8, 6],
    ] as const) {
      const header = syn!.slice(0, 10);
      header[at] = value;
      expect(pond.send(syn!.slice(10), header).verdict).toBe('bad_vnet_header');
    }
  });
});

test('captured fragments, the first with ports and the rest without, arrive as one datagram', () => {
  const fragments = lines('fragments').map(bytesOf);
  const whole = joined(fragments.map((each) => each.slice(10)))!;
  expect(read(whole)).toMatchObject({ protocol: 17, sourcePort: 49_760 });
  const expected = translated(whole, 'source', { address: '198.51.100.10', port: 9_000 });
  for (const order of [fragments, fragments.toReversed()]) {
    const pond = new Pond(blocks, { vnetHeaderBytes: 10 });
    const left = order.flatMap((each) => {
      const { verdict, bytes } = pond.send(each.slice(10), each.slice(0, 10));
      return verdict === 'held' ? [] : [bytes, ...pond.behind];
    });
    expect(left).toHaveLength(2);
    const arrived = joined(left)!;
    expect(hexOf(arrived)).toBe(hexOf(renumbered(expected, identificationOf(arrived))));
    expect(checksumProblem(arrived)).toBeUndefined();
  }
});
