import { describe, expect, it } from 'vitest';
import { mssThrough } from '../../../src/fish/packet/mss-clamp.ts';
import { cut, joined } from '../../support/cut-packets.ts';
import { block, client, client6, origin, origin6, outside, Pond } from '../../support/fish.ts';
import { translated } from '../../support/naive-nat.ts';
import { build, checksumProblem, hexOf, tcp, type TcpFields } from '../../support/packets.ts';
import { transportOf6 } from '../../support/packets6.ts';

const [leased, leased6] = ['198.51.100.10', '2001:db8:d::10'];
const blocks = [block(leased, 'tcp', 9_008, 9_023), block(leased6, 'tcp', 9_008, 9_023)];
/** 1,360 and 1,340. */
const narrow = mssThrough(1_400);
const families = [
  [4, client, origin, 1_360],
  [6, client6, origin6, 1_340],
] as const;
const optionsOf = (packet: Uint8Array): number[] => {
  const at = packet[0]! >>> 4 === 6 ? transportOf6(packet).at : (packet[0]! & 15) * 4;
  return [...packet.subarray(at + 20, at + (packet[at + 12]! >>> 4) * 4)];
};
const option = (mss: number) => [2, 4, mss >>> 8, mss & 255];

describe.each(families)('over IPv%i the maximum segment size', (family, from, to, max) => {
  const pond = () => new Pond(blocks, narrow);
  const sent = (of: Pond, fields: TcpFields) => {
    const { verdict, bytes } = of.send(fields);
    expect([verdict, checksumProblem(bytes)]).toEqual(['forward', undefined]);
    return optionsOf(bytes);
  };
  const syn = (tcpOptions: readonly number[], more: Partial<TcpFields> = {}) =>
    tcp(from, to, 'S', { sequence: 100, tcpOptions, ...more });

  it('is lowered in the SYN and in its answer, and counted', () => {
    const each = pond();
    expect(sent(each, syn(option(1_460)))).toEqual(option(max));
    const back = { address: family === 4 ? leased : leased6, port: outside(each.send(syn(option(1_460)))).port };
    const answer = tcp(to, back, 'SA', { sequence: 500, acknowledgement: 101, tcpOptions: option(8_960) });
    expect(sent(each, answer)).toEqual(option(max));
    expect(each.forwarder.counters().mssClamped).toBe(3);
  });

  it.each([
    ['behind one byte', [1, ...option(1_460), 1, 1, 1], [1, ...option(max), 1, 1, 1]],
    ['behind three', [3, 3, 7, ...option(0xffff), 0], [3, 3, 7, ...option(max), 0]],
    [
      'among others',
      [4, 2, ...option(9_001), 8, 10, 0, 1, 2, 3, 4, 5, 6, 7],
      [4, 2, ...option(max), 8, 10, 0, 1, 2, 3, 4, 5, 6, 7],
    ],
    ['said twice', [...option(1_460), 1, ...option(1_500), 0, 0, 0], [...option(max), 1, ...option(max), 0, 0, 0]],
    ['in front of what makes no sense', [...option(1_460), 8, 12, 1, 2], [...option(max), 8, 12, 1, 2]],
  ])('is found %s', (_where, before, after) => {
    for (const padding of [0, 1, 2, 3])
      expect(sent(pond(), syn(before, { data: new Uint8Array(padding) }))).toEqual(after);
  });

  it.each([
    ['as large as may be', option(max)],
    ['smaller', option(536)],
    ['not said', []],
    ['not said among other options', [1, 3, 3, 7]],
    ['of length 0', [2, 0, 5, 180]],
    ['of length 1', [2, 1, 5, 180]],
    ['of another length', [2, 6, 5, 180, 5, 180, 1, 1]],
    ['cut off by the end of the header', [1, 1, 2, 4]],
    ['without a length', [1, 1, 1, 2]],
    ['behind the end of the options', [0, ...option(1_460), 0, 0, 0]],
    ['behind one without an end', [8, 0, 1, 1, ...option(1_460)]],
    ['behind one that is too long', [8, 200, 1, 1, ...option(1_460)]],
  ])('is left alone when it is %s', (_how, tcpOptions) => {
    const each = pond();
    // What follows the header must not be taken for the rest of it.
    expect(sent(each, syn(tcpOptions, { data: Uint8Array.of(255, 255, 255, 255) }))).toEqual(tcpOptions);
    expect(each.forwarder.counters().mssClamped).toBe(0);
  });

  it('is left alone in what is no SYN', () => {
    const each = pond();
    const tcpOptions = option(1_460);
    sent(each, syn(tcpOptions));
    expect(sent(each, tcp(from, to, 'A', { sequence: 101, tcpOptions }))).toEqual(tcpOptions);
  });

  it('leaves a checksum that is yet to be completed as the addresses have it', () => {
    const each = new Pond(blocks, { ...narrow, vnetHeaderBytes: 10 });
    const partial = (tcpOptions: readonly number[]) => build(syn(tcpOptions), true);
    const header = Uint8Array.of(1, 0, 0, 0, 0, 0, family === 4 ? 20 : 40, 0, 16, 0);
    const { verdict, bytes } = each.send(partial([1, ...option(1_460), 0, 0, 0]), header);
    expect(verdict).toBe('forward');
    expect(hexOf(bytes)).toBe(
      hexOf(translated(partial([1, ...option(max), 0, 0, 0]), 'source', outside({ verdict, bytes }), true)),
    );
  });

  it('is lowered in the first fragment of a SYN, with the checksum of all of it', () => {
    const each = pond();
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    const pieces = cut(build(syn([1, ...option(1_460), 0, 0, 0], { data, fragment: 0 })), 48);
    const after = pieces.map((piece) => {
      const { verdict, bytes } = each.send(piece);
      expect(verdict).toBe('forward');
      return bytes;
    });
    const whole = joined(after)!;
    expect(checksumProblem(whole)).toBeUndefined();
    expect(optionsOf(whole)).toEqual([1, ...option(max), 0, 0, 0]);
  });

  it('is lowered once on the way from one client to another', () => {
    const each = new Pond(blocks, { ...narrow, tcpMapping: 'endpoint_independent' });
    const other = { ...from, address: family === 4 ? '100.96.0.3' : '2001:db8:c:1::3' };
    const mapped = outside(each.send(tcp(other, to, 'S')));
    const called = each.send(tcp(from, mapped, 'S', { tcpOptions: option(1_460) }));
    expect([called.verdict, checksumProblem(called.bytes)]).toEqual(['forward', undefined]);
    expect(optionsOf(called.bytes)).toEqual(option(max));
    expect(each.forwarder.counters().mssClamped).toBe(1);
  });

  it('is anything when nothing was said about it, and what is said while it runs', () => {
    const each = new Pond(blocks);
    expect(sent(each, syn(option(65_000)))).toEqual(option(65_000));
    each.forwarder.clampMss(narrow);
    expect(sent(each, syn(option(65_000)))).toEqual(option(max));
  });
});

it('comes from what fits through a link, behind the headers', () => {
  expect(mssThrough(1_500)).toEqual({ mssMax: 1_460, mssMax6: 1_440 });
});
