import { describe, expect, it } from 'vitest';
import type { Command, CommandKind } from '../../src/leases/commands.ts';
import type { Terms } from '../../src/leases/lease-service.ts';
import { limits } from '../../src/leases/limits.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { audited, keyed, must, tcp, World } from '../support/world.ts';

async function town() {
  const store = new MemoryStore();
  const world = new World(store);
  await world.pool('v4', ['198.51.100.0/28'], { usablePorts: { first: 2_048, last: 65_535 } });
  await world.machine('bare', 'none');
  const act = <K extends CommandKind>(command: Command<K>, target = 'things/one', terms: Terms = {}) =>
    world.execute(command, { ...audited(target), ...terms });
  const entries = () => [...store.tables.audit.values()];
  return { store, world, act, entries };
}

const cordon: Command<'updateMachine'> = { kind: 'updateMachine', id: 'bare', state: 'cordoned' };

describe('the audit log', () => {
  it('tells who did what, when, and how things were before and after', async () => {
    const { world, act, entries } = await town();
    const before = await world.store.reader.machine('bare');
    const after = must(await act(cordon, 'machines/bare'));
    expect(entries()).toEqual([
      {
        ...{ id: 1, at: world.clock.us, token: 7, tokenName: 'alice', role: 'operator', requestId: 'r' },
        ...{ remoteAddress: '192.0.2.7', operation: 'anything', target: 'machines/bare', outcome: 'done', code: null },
        ...{
          revision: after.revision,
          firstRevision: after.revision,
          changes: [{ kind: 'machine', before, after }],
          changesOmitted: 0,
        },
      },
    ]);
  });

  it('names what was made, where the request could not', async () => {
    const { act, entries } = await town();
    await act({ kind: 'createMachine', id: 'm', labels: {}, enforcement: 'none', fenceUs: 1 }, 'machines');
    await act({ kind: 'createMachine', id: 'm', labels: {}, enforcement: 'none', fenceUs: 1 }, 'machines');
    await act({ kind: 'assignSlices', machine: 'm', pool: 'v4', count: 1, family: null, at: null }, 'slices');
    await act({ kind: 'putHolder', machine: 'm', name: 'web', holderKind: 'proxy', uid: 9 }, 'machines/m/holders/web');
    expect(entries().map(({ target, outcome, code }) => [target, outcome, code])).toEqual([
      ['machines/m', 'done', null],
      ['machines', 'refused', 'machine_exists'],
      [expect.stringMatching(/^slices\/slice-\d+$/), 'done', null],
      ['machines/m/holders/web', 'done', null],
    ]);
  });

  it('tells each of several acts in one batch apart, and what each found', async () => {
    const { act, entries } = await town();
    const back: Command<'updateMachine'> = { ...cordon, state: 'active' };
    await Promise.all([act(cordon), act(cordon), act(back)]);
    expect(
      entries().map(({ id, changes }) => [
        id,
        changes.map(({ before, after }) => [
          before && 'state' in before && before.state,
          after && 'state' in after && after.state,
        ]),
      ]),
    ).toEqual([
      [1, [['active', 'cordoned']]],
      [2, []],
      [3, [['cordoned', 'active']]],
    ]);
    expect(entries().map(({ revision }) => revision === null)).toEqual([false, true, false]);
  });

  it('has what was refused, and what was answered again; a dry run is no act', async () => {
    const { act, entries, store } = await town();
    await act({ ...cordon, id: 'nobody' });
    expect(store.revision).toBe(2);
    await act(cordon, 'x/y', { dryRun: true });
    const again = () =>
      act(cordon, 'x/y', { provenance: { ...audited('x/y').provenance, key: keyed('k').provenance.key } });
    await again();
    await again();
    expect(entries().map(({ outcome, code, changes }) => [outcome, code, changes.length])).toEqual([
      ['refused', 'machine_not_found', 0],
      ['done', null, 1],
      ['replayed', null, 0],
    ]);
  });

  it('is not written for those who do not answer for it', async () => {
    const { world, entries } = await town();
    await world.execute(cordon);
    await world.execute(cordon, keyed('k'));
    expect(entries()).toEqual([]);
  });

  it('shows the first of many changes, and how many more there were', async () => {
    const { act, entries } = await town();
    const count = limits.audit_changes_max + 9;
    await act({ kind: 'assignSlices', machine: 'bare', pool: 'v4', count, family: null, at: null }, 'slices');
    const [entry] = entries();
    // The pool too: its cursor went on.
    expect([entry?.changes.length, entry?.changesOmitted]).toEqual([limits.audit_changes_max, 10]);
  });

  it('never has what a secret could be compared with', async () => {
    const { act, entries } = await town();
    const bearer = { name: 'ci', role: 'viewer', machine: null, holder: null } as const;
    const token = must(await act({ kind: 'createToken', ...bearer, hash: 'the-hash' }, 'tokens'));
    await act({ kind: 'rotateToken', id: token.id, hash: 'another-hash', graceUs: 1e6 }, `tokens/token-${token.id}`);
    await act({ kind: 'revokeToken', id: token.id }, `tokens/token-${token.id}`);
    expect(entries().map(({ target, changes }) => [target, changes.length])).toEqual(
      Array(3).fill([`tokens/token-${token.id}`, 1]),
    );
    expect(JSON.stringify(entries())).not.toMatch(/hash/i);
  });

  it('goes on in time, whatever the clock does', async () => {
    const { world, act, entries } = await town();
    await act(cordon);
    world.clock.us -= 5_000_000;
    await act(cordon);
    const [first, second] = entries();
    expect(second?.at).toBe(first?.at);
  });

  it('has those who were turned away, at the time when they came', async () => {
    const { world, entries } = await town();
    const denial = { token: null, tokenName: null, role: null, requestId: 'q', remoteAddress: '203.0.113.9' } as const;
    const what = { operation: 'createPool', target: 'pools', code: 'unauthenticated' };
    await world.execute({ kind: 'noteDenials', denials: [{ ...denial, ...what, agoUs: 2_000_000 }] });
    expect(entries()).toEqual([
      {
        ...{ id: 1, at: world.clock.us - 2_000_000, ...denial, ...what, outcome: 'denied' },
        ...{ revision: null, firstRevision: null, changes: [], changesOmitted: 0 },
      },
    ]);
  });

  it('tells of leases that an operator took', async () => {
    const { world, act, entries } = await town();
    await world.holder('bare', 'web');
    await world.ready('bare', 'v4');
    const [lease] = await world.leases(await world.session('bare', 'web'), tcp(4));
    await act(
      { kind: 'revokeLease', id: lease?.id ?? 0, deadlineUs: null, forced: false, reason: 'abuse' },
      `leases/lease-${lease?.id}`,
    );
    expect(entries()[0]?.changes).toMatchObject([
      { kind: 'lease', before: { state: 'active', reason: null }, after: { state: 'cooling', reason: 'abuse' } },
    ]);
  });
});
