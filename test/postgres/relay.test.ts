import { describe, expect, it, vi } from 'vitest';
import { startEngine } from '../../src/engine/remote-engine.ts';
import type { Relay } from '../../src/leases/store.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';

const patience = { timeout: 20_000, interval: 20 };

/** What the server hears of the others. */
function heardBy({ relay }: Readonly<{ relay?: Relay | undefined }>): string[] {
  const heard: string[] = [];
  relay?.onTold((text) => heard.push(text));
  return heard;
}

describe('servers on one database', () => {
  it('tell one another texts of any length, whole and in order, also after their connections were cut', async () => {
    await using database = await temporaryDatabase();
    const [one, two] = [await database.open(), await database.open()];
    const [here, there] = [heardBy(one), heardBy(two)];
    // Whoever does not listen yet hears nothing.
    await vi.waitFor(async () => {
      await one.relay?.tell('begin');
      expect([here.length, there.length].every((count) => count > 0)).toBe(true);
    }, patience);
    const long = JSON.stringify({ text: 'ü'.repeat(50_000) });
    await one.relay?.tell(long);
    await one.relay?.tell('short');
    await vi.waitFor(() => expect(there.slice(-2)).toEqual([long, 'short']), patience);
    await vi.waitFor(() => expect(here.slice(-2)).toEqual([long, 'short']), patience);
    await database.cutConnections();
    await vi.waitFor(async () => {
      await two.relay?.tell('again');
      expect([here.at(-1), there.at(-1)]).toEqual(['again', 'again']);
    }, patience);
  });

  it('do so from the thread that talks HTTP, by way of the engine’s own', async () => {
    await using database = await temporaryDatabase();
    const engine = await startEngine(
      {
        location: { url: database.url, directory: '/nonexistent' },
        ...{ eventsKept: 1_000, answersKeptUs: 1, historyKeptUs: 1_000_000_000, auditKeptUs: 1_000_000_000 },
      },
      { onTrouble: () => {}, onSweepFailure: () => {}, onDeath: () => {} },
    );
    const other = await database.open();
    const [mine, others] = [heardBy(engine), heardBy(other)];
    await vi.waitFor(async () => {
      await engine.relay?.tell('to all');
      expect([mine.at(-1), others.at(-1)]).toEqual(['to all', 'to all']);
    }, patience);
    await engine.close();
  });
});
