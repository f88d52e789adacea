import { FisheryClient, keepAlive, watchLeases } from '../../src/sdk/index.ts';
import type { Lease } from '../../src/wire/leases.ts';
import type { Settings } from './settings.ts';

export type RightOptions = Pick<Settings, 'server' | 'token' | 'machine' | 'holder' | 'ports' | 'ttl_s'> &
  Readonly<{
    /** Hears that the right to the ports is gone. Called at most once. */
    onLost: (why: string) => void;
    onTrouble: (what: string) => void;
  }>;

/** The right to a block of ports, for as long as it lasts. */
export type Right = Readonly<{ lease: Lease; giveBack: () => Promise<void> }>;

/**
 * Opens a session, takes a shared lease that is bound late (so that a fish and other proxies of this machine may use the
 * same ports toward other destinations), and keeps both alive.
 */
export async function acquire(options: RightOptions): Promise<Right> {
  const { machine, holder, ttl_s, ports } = options;
  const client = new FisheryClient({ url: options.server, token: options.token });
  const session = await client.sessions.open({ machine, holder, ttl_s });
  const stop = new AbortController();
  const kept = keepAlive(client, session, {
    signal: stop.signal,
    onLost: ({ detail }) => options.onLost(detail),
    onTrouble: (error) => options.onTrouble(error.message),
  });
  const giveBack = async () => {
    stop.abort();
    await kept.done;
    await client.sessions.end(session.id);
  };
  try {
    const { leases } = await client.leases.grant({
      session: session.id,
      claims: [{ protocol: 'tcp', mode: 'shared', binding: 'late', ports }],
    });
    const [lease] = leases;
    if (lease?.state !== 'active') throw new Error(`the agent of ${machine} did not make the lease true in time`);
    void watchLeases(client, session, {
      signal: stop.signal,
      onLost: (lost) => options.onLost(lost.map(({ id, ending, state }) => `${id} is ${ending ?? state}`).join(', ')),
      onTrouble: (error) => options.onTrouble(error.message),
    });
    return { lease, giveBack };
  } catch (thrown) {
    await giveBack();
    throw thrown;
  }
}
