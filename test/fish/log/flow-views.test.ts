import { expect, test } from 'vitest';
import { answerOf } from '../../../src/fish/log/walk.ts';
import { block, origin, Pond } from '../../support/fish.ts';
import { tcp } from '../../support/packets.ts';

const flowsMax = 8_192;

function pondOf(flows: number): Pond {
  const pond = new Pond([block('198.51.100.10', 'tcp', 8_192, 16_383)], {
    flowsMax,
    clientShare: 1,
    portProbesMax: 8_192,
  });
  for (let i = 0; i < flows; i++)
    pond.send(tcp({ address: `100.96.${i % 7}.2`, port: 1_000 + i }, origin, 'S', { data: new Uint8Array(i % 7) }));
  return pond;
}

test('a list of many flows is made in pieces, between which packets are handled', () => {
  const pond = pondOf(5_000);
  const walk = pond.forwarder.views.list({ state: 'live' }, 10_000);
  expect(walk.next()).toEqual({ done: false, value: undefined });
  expect(pond.send(tcp({ address: '100.96.9.9', port: 9 }, origin, 'S')).verdict).toBe('forward');
  const { flows, truncated } = answerOf(walk);
  expect(truncated).toBe(false);
  expect(flows.length).toBeGreaterThanOrEqual(5_000);
  expect(new Set(flows.map(({ port }) => port)).size).toBe(flows.length);
});

test('it ends with as many as were asked for, and says that there are more', () => {
  const { views } = pondOf(100).forwarder;
  expect(answerOf(views.list({}, 100))).toMatchObject({ truncated: false });
  const { flows, truncated } = answerOf(views.list({}, 99));
  expect([flows.length, truncated]).toEqual([99, true]);
});

test('the top talkers are the largest of all, in order, also when there are more than are kept while walking', () => {
  const pond = pondOf(5_000);
  const talkers = answerOf(pond.forwarder.views.topTalkers('client', 3));
  expect(talkers.map(({ name }) => name)).toEqual(['100.96.6.2', '100.96.5.2', '100.96.4.2']);
  expect(talkers[0]).toMatchObject({ flows: 714, packetsOut: 714, bytesOut: 714 * 46 });
  expect(answerOf(pond.forwarder.views.topTalkers('remote', 3))).toMatchObject([
    { name: origin.address, flows: 5_000 },
  ]);
});
