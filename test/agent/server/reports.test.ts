import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { LeaseOutcome } from '../../../src/agent/leases/lease-host.ts';
import { Reports } from '../../../src/agent/server/reports.ts';
import type { Applied, AppliedAnswer } from '../../../src/wire/agent.ts';

const outcome = (lease: number, state: 'active' | 'empty' = 'active'): LeaseOutcome => ({
  lease: `lease-${lease}`,
  token: `1.1.${lease}`,
  state,
});

/** A server that answers when told to. */
class Server {
  readonly heard: Applied[] = [];
  readonly #answers: ((answer: AppliedAnswer | Error) => void)[] = [];
  readonly reports = new Reports({
    send: (applied) => {
      this.heard.push(applied);
      return new Promise((resolve, reject) =>
        this.#answers.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer))),
      );
    },
    isHopeless: (error) => error instanceof Error && error.message === 'nonsense',
    pause: async () => {},
    log: pino({ level: 'silent' }),
  });
  readonly #stopping = new AbortController();
  readonly #running = this.reports.run(this.#stopping.signal);

  async answer(answer: AppliedAnswer | Error = { revision: 1, rejected: [] }): Promise<void> {
    this.#answers.shift()?.(answer);
    await settle();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.answer(new Error('stopped'));
    await this.#running;
  }

  /** The leases of each report so far. */
  said(): string[] {
    return this.heard.map(({ leases }) => leases.map((each) => `${each.lease} ${each.state}`).join(', '));
  }
}
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('reports', () => {
  it('go out together, with the revision that is reached', async () => {
    const server = new Server();
    server.reports.add([outcome(1), outcome(2)], [{ slice: 'slice-1', generation: 3, state: 'assigned' }], 17);
    await settle();
    expect(server.heard).toEqual([
      {
        revision: 17,
        leases: [outcome(1), outcome(2)],
        slices: [{ slice: 'slice-1', generation: 3, state: 'assigned' }],
      },
    ]);
    await server.answer();
    expect(server.reports.waiting).toBe(0);
    await server.stop();
  });

  it('say which blocked ports are clear, until that is answered too', async () => {
    const server = new Server();
    const clear = [{ slice: 'slice-1', generation: 3, protocol: 'tcp' as const, ports: { first: 8, last: 15 } }];
    server.reports.add([], [], 17, clear);
    await settle();
    await server.answer(new Error('away'));
    expect(server.heard).toEqual([1, 2].map(() => ({ revision: 17, leases: [], slices: [], clear })));
    await server.answer();
    expect(server.reports.waiting).toBe(0);
    await server.stop();
  });

  it('that the server does not take are in dispute until it takes another word of the same thing', async () => {
    const server = new Server();
    server.reports.add([outcome(1), outcome(2)], [], 1);
    await settle();
    const rejected = [
      { item: 'lease-1', code: 'in_use', detail: 'it does not end' },
      { item: 'lease-2', code: 'lease_not_found', detail: '' },
    ] as const;
    await server.answer({ revision: 1, rejected: [...rejected] });
    expect([server.reports.rejected, server.reports.disputes]).toEqual([2, ['lease-1: in_use, it does not end']]);
    server.reports.add([outcome(1, 'empty')], [], 2);
    await settle();
    await server.answer();
    expect([server.reports.rejected, server.reports.disputes]).toEqual([2, []]);
    await server.stop();
  });

  it('are repeated until they are answered', async () => {
    const server = new Server();
    server.reports.add([outcome(1)], [], 1);
    await settle();
    await server.answer(new Error('away'));
    await server.answer(new Error('away'));
    expect(server.said()).toEqual(['lease-1 active', 'lease-1 active', 'lease-1 active']);
    await server.answer();
    expect(server.reports.waiting).toBe(0);
    await server.stop();
  });

  it('carry what came up meanwhile, and only the latest word about each', async () => {
    const server = new Server();
    server.reports.add([outcome(1)], [], 1);
    await settle();
    server.reports.add([outcome(1, 'empty'), outcome(2)], [], 2);
    server.reports.add([outcome(2, 'empty')], [], 3);
    await server.answer();
    expect(server.said()).toEqual(['lease-1 active', 'lease-1 empty, lease-2 empty']);
    expect(server.heard.at(-1)?.revision).toBe(3);
    await server.answer();
    await server.stop();
  });

  it('that the server rejects are dropped: it knows better', async () => {
    const server = new Server();
    server.reports.add([outcome(1)], [], 1);
    await settle();
    await server.answer({ revision: 1, rejected: [{ item: 'lease-1', code: 'stale_token', detail: '' }] });
    expect([server.reports.waiting, server.reports.rejected]).toEqual([0, 1]);
    await server.stop();
  });

  it('that the server does not understand do not block those after them', async () => {
    const server = new Server();
    server.reports.add([outcome(1)], [], 1);
    await settle();
    await server.answer(new Error('nonsense'));
    server.reports.add([outcome(2)], [], 2);
    await settle();
    expect(server.said()).toEqual(['lease-1 active', 'lease-2 active']);
    await server.answer();
    await server.stop();
  });

  it('come in portions that the server takes', async () => {
    const server = new Server();
    server.reports.add(
      Array.from({ length: 10_001 }, (_, i) => outcome(i + 1)),
      [],
      1,
    );
    await settle();
    await server.answer();
    expect(server.heard.map(({ leases }) => leases.length)).toEqual([10_000, 1]);
    await server.answer();
    await server.stop();
  });

  it('are settled when nothing waits any more', async () => {
    const server = new Server();
    await server.reports.settled();
    server.reports.add([outcome(1)], [], 1);
    let isSettled = false;
    void server.reports.settled().then(() => (isSettled = true));
    await settle();
    expect(isSettled).toBe(false);
    await server.answer();
    await settle();
    expect(isSettled).toBe(true);
    await server.stop();
  });

  it('are forgotten with a snapshot', async () => {
    const server = new Server();
    server.reports.add([outcome(1)], [], 5);
    server.reports.clear();
    expect(server.reports.waiting).toBe(0);
    await server.stop();
  });
});
