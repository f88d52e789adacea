import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, type AgentLab } from './support/agent-lab.ts';
import { RestartScene } from './support/restart-scene.ts';
import type { StreamReport } from './support/stream-process.ts';

/** What queues while nothing is carried comes all at once afterwards, and the receiver's socket holds some five hundred. */
const datagramEvery_ms = 25;

describe.each(['nftables', 'ebpf'] as const)(
  'an agent that is started again under load, steering by %s',
  (steering) => {
    let scene: RestartScene;
    let resets: Awaited<ReturnType<AgentLab['capture']>>;
    let echoes: Awaited<ReturnType<AgentLab['capture']>>;

    beforeAll(async () => {
      scene = await RestartScene.open(`restart-${steering}`, { steering });
      const { lab } = scene;
      resets = await lab.capture(lab.origin, 'o0', 'tcp[tcpflags]&tcp-rst!=0');
      echoes = await lab.capture(lab.origin, 'o0', 'icmp[icmptype]==icmp-echo');
      await scene.begin(2, datagramEvery_ms);
    }, 120_000);
    afterAll(() => scene.close());

    it('after SIGKILL goes on with every flow where it was', async () => {
      expect(scene.placeholders()).toBe(scene.streamsInShared);
      await scene.restart('SIGKILL');
      expect(scene.placeholders()).toBe(scene.streamsInShared);
      await scene.everythingMoves();
      const { fish } = await scene.agent.ready();
      expect(await scene.broken()).toEqual([]);
      expect(fish?.stats).toMatchObject({
        // The streams, the datagrams and the echo.
        adoption_flows: scene.streams + 2,
        adoption_damaged: 0,
        adoption_without_placeholder: 0,
      });
      expect(scene.placeholders()).toBe(scene.streamsInShared);
    }, 120_000);

    it('as planned loses no packet, either way', async () => {
      const { sent: first } = await scene.client.report();
      expect(await scene.restart('SIGTERM')).toBe(0);
      await scene.everythingMoves();
      await scene.agent.ready();
      expect(await scene.broken()).toEqual([]);
      const { sent: last } = await scene.client.report();
      // Those that are on their way arrive.
      await expect.poll(() => scene.lost(first, last), { timeout: 15_000 }).toEqual({ there: 0, back: 0 });
    }, 120_000);

    it('without the server goes on all the same, and takes a 5-tuple anew that is not held as it was', async () => {
      scene.lab.freezeServer(true);
      await scene.restart('SIGKILL', () => expect(scene.misplace(2)).toBe('misplaced 2'));
      await scene.everythingMoves();
      expect(await scene.broken()).toEqual([]);
      scene.lab.freezeServer(false);
      const { fish } = await scene.agent.ready();
      await scene.everythingMoves();
      expect(await scene.broken()).toEqual([]);
      expect(fish?.stats).toMatchObject({
        adoption_flows: scene.streams + 2,
        adoption_without_placeholder: 0,
        adoption_placeholders_reopened: 2,
        adoption_placeholders_disbelieved: 2,
      });
      expect(scene.agent.output).toContain('what was kept for flows of a former fish was not what stands beside it');
      expect(scene.placeholders()).toBe(scene.streamsInShared);
    }, 120_000);

    it('that loses its keeper has the sockets of its flows opened again, in another one', async () => {
      const [before] = (await scene.agent.status()).keepers;
      process.kill(before!.pid, 'SIGKILL');
      await scene.agent.until(
        ({ keepers }) => keepers[0]?.pid !== before!.pid && keepers[0]?.problem === null,
        'no keeper',
      );
      await scene.everythingMoves();
      expect(await scene.broken()).toEqual([]);
      expect((await scene.agent.ready()).fish?.stats).toMatchObject({
        adoption_flows: scene.streams + 2,
        adoption_placeholders_reopened: scene.streamsInShared,
      });
      expect(scene.placeholders()).toBe(scene.streamsInShared);
      // And what is in that one is enough for a successor.
      await scene.restart('SIGKILL');
      await scene.everythingMoves();
      expect(await scene.broken()).toEqual([]);
    }, 120_000);

    it('leaves every byte as it was sent, sends no reset, and keeps nothing that has ended', async () => {
      const { origin, client } = scene;
      await origin.tell({ do: 'finish' });
      await client.tell({ do: 'finish' });
      const [here, there] = await eventually(
        async () => {
          const both = [await client.report(), await origin.report()] as const;
          return both.every(({ streams }) => streams.every(({ ended }) => ended)) ? both : undefined;
        },
        () => 'the streams do not end',
        30_000,
      );
      const digest = ({ streams }: StreamReport) =>
        streams
          .map(({ id, way, bytes, hash, error }) => ({ id, way, bytes, hash, error }))
          .toSorted((a, b) => a.id - b.id);
      expect(digest(here)).toEqual(digest(there));
      expect(await resets.stop()).toEqual([]);
      const echoed = await echoes.stop();
      const identifiers = new Set(echoed.map((line) => /IP (\S+) > .* id (\d+),/.exec(line)?.slice(1).join(' ')));
      expect(identifiers.size).toBe(1);
      await expect.poll(() => scene.placeholders(), { timeout: 15_000 }).toBe(0);
      expect((await scene.agent.status()).fish?.stats).toMatchObject({ placeholders_held: 0 });
    });
  },
);
