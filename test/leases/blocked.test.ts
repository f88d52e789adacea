import { beforeEach, describe, expect, it } from 'vitest';
import type { ClearReport } from '../../src/leases/commands.ts';
import type { Lease, Session, Slice } from '../../src/leases/model.ts';
import { at, ledger, shared, tcp, World } from '../support/world.ts';

/** One slice, 198.51.100.0:2048-4095, on a machine with an agent and three proxies. */
let w: World;
let slice: Slice;
let web: Session;
let mail: Session;
let news: Session;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31']);
  await w.machine('edge-1');
  for (const holder of ['web', 'mail', 'news']) await w.holder('edge-1', holder);
  [slice] = (await w.ready('edge-1', 'v4')) as [Slice];
  [web, mail, news] = [
    await w.session('edge-1', 'web', 86_400),
    await w.session('edge-1', 'mail', 86_400),
    await w.session('edge-1', 'news', 86_400),
  ];
});

const clear = async (of: Pick<Lease, 'protocol' | 'ports'>, rest: Partial<ClearReport & { machine: string }> = {}) => {
  const { machine = 'edge-1', ...over } = rest;
  const item = { slice: slice.id, generation: slice.generation, protocol: of.protocol, ports: of.ports, ...over };
  const result = await w.execute({ kind: 'report', machine, revision: 0, leases: [], slices: [], clear: [item] });
  if (!result.ok) return result.error.code;
  return result.value.rejected.map(({ item, code }) => `${item} ${code}`).join(', ') || 'taken';
};

describe('ports on which a stranger was met', () => {
  it('rest and come back when the agent finds that it is gone', async () => {
    const [lease] = (await w.leases(web, tcp(2_048))) as [Lease];
    await ledger([
      ['not blocked yet', () => clear(lease), `slice-${slice.id} nothing_blocked`],
      ['refused', () => w.report(lease, 'refused'), 'taken'],
      ['blocked', () => w.grant(web, tcp(1)), 'no_ports'],
      ['not its machine', () => clear(lease, { machine: 'edge-9' }), 'machine_not_found'],
      ['an older generation', () => clear(lease, { generation: 0 }), `slice-${slice.id} stale_token`],
      ['no slice', () => clear(lease, { slice: 999 }), 'slice-999 slice_not_found'],
      ['another protocol', () => clear(lease, { protocol: 'udp' }), `slice-${slice.id} nothing_blocked`],
      ['gone', () => clear(lease), 'taken'],
      ['they rest', () => w.extents(slice), 'cooling 2048-4095'],
      ['rested', () => w.pass(121), undefined],
      ['granted again', () => w.grant(web, tcp(1)), '198.51.100.0:4095/tcp pending'],
    ]);
  });

  it('are told to an agent that begins anew', async () => {
    const [a, , c] = (await w.leases(web, tcp(8), tcp(8), shared(64))) as [Lease, Lease, Lease];
    const [joined] = (await w.leases(mail, shared(64))) as [Lease];
    for (const lease of [a, joined]) await w.report(lease, 'refused');
    const place = ({ slice: id, protocol, ports }: Lease) => ({ slice: id, protocol, ports });
    const desired = await w.store.reader.desired('edge-1');
    expect(desired?.blocked).toEqual([place(c), place(a)]);
    await clear(a);
    expect((await w.store.reader.desired('edge-1'))?.blocked).toEqual([place(c)]);
  });
});

describe('a shared block that a stranger keeps a member out of', () => {
  let first: Lease;
  beforeEach(async () => {
    [first] = (await w.leases(web, shared(64))) as [Lease];
    await w.report(first, 'active');
    const [second] = (await w.leases(mail, shared(64))) as [Lease];
    expect(second.ports).toEqual(first.ports);
    await w.report(second, 'refused');
  });

  it('keeps those who are in it, and is offered to nobody else', () =>
    ledger([
      ['the first stays', () => w.look(first), '198.51.100.0:4032-4095/tcp shared late active'],
      [
        'the refused one goes elsewhere',
        () => w.grant(mail, shared(64)),
        '198.51.100.0:3968-4031/tcp shared late pending',
      ],
      ['not by name', () => w.grant(news, shared(64, at('198.51.100.0', 4_032))), 'block_taken'],
      ['and so do others', () => w.grant(news, shared(64)), '198.51.100.0:3968-4031/tcp shared late pending'],
    ]));

  it('shows the stranger', async () => {
    const { blocked } = await w.store.reader.tiling(slice.id);
    expect(blocked).toMatchObject([
      { ports: first.ports, members: 1, blocked: { reason: 'EADDRINUSE: port 5 of nginx' } },
    ]);
  });

  it('is offered again when the agent or an operator says that the stranger is gone', () =>
    ledger([
      ['the agent', () => clear(first), 'taken'],
      ['joined again', () => w.grant(mail, shared(64)), '198.51.100.0:4032-4095/tcp shared late pending'],
      ['nothing more to clear', () => clear(first), `slice-${slice.id} nothing_blocked`],
      [
        'nor to unblock',
        () =>
          w
            .execute({ kind: 'unblock', slice: slice.id, protocol: 'tcp', ports: first.ports })
            .then((result) => result.ok || result.error.code),
        'nothing_blocked',
      ],
    ]));

  it('stays out of the offers when its slice is drained, and is free when its last member has left and rested', async () => {
    await w.release(first);
    await w.report(first, 'empty');
    expect(await w.extents(slice)).toBe('free 2048-4031');
    await w.pass(121);
    expect(await w.extents(slice)).toBe('free 2048-4095');
    expect(await w.grant(news, shared(64))).toBe('198.51.100.0:4032-4095/tcp shared late pending');
  });
});
