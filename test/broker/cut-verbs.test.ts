import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { formatToken } from '../../src/leases/model.ts';
import { FisheryClient, isFisheryError } from '../../src/sdk/index.ts';
import { formatInstant } from '../../src/wire/instants.ts';
import type { Lease } from '../../src/wire/leases.ts';
import type { Session } from '../../src/wire/sessions.ts';
import { insist } from '../support/insist.ts';
import type { Break, Message } from '../support/link.ts';
import { LinkedBroker } from '../support/linked-broker.ts';
import { Senders } from '../support/senders.ts';

const here = { allocator: 'machine', machine: 'edge' } as const;
const breaks: readonly Break[] = (['up', 'down'] as const).flatMap((dead) =>
  (['before', 'after'] as const).map((when) => ({ dead, when })),
);
/** Two clocks of one host. */
const clocks_apart_us = 5_000;
/** How often a verb is played until a message that it has not always (two reports were one) is there to be cut. */
const attempts_max = 50;

const instant = (us: number | null) => (us === null ? null : formatInstant(us));
const numberOf = (id: string) => Number(id.split('-')[1]);

/** One machine that grants in one slice, and all that is asked of it. */
class Scene implements AsyncDisposable {
  w: LinkedBroker;
  readonly server: FisheryClient;
  local: FisheryClient;
  #machines = 1;
  /** Whose the server is. */
  #first: LinkedBroker | undefined;
  readonly senders = new Senders();
  /** How often whoever asked had to ask again. */
  repeated = 0;

  private constructor(w: LinkedBroker) {
    this.w = w;
    this.server = new FisheryClient({ url: w.server.url, token: w.server.secret, attemptsMax: 1 });
    this.local = w.local(1);
    this.senders.follow(w);
  }

  static async open(): Promise<Scene> {
    const w = await LinkedBroker.open({ forward_ms: 250, heartbeat_ms: 100 }, { isSparing: true });
    const scene = new Scene(w);
    await scene.assign();
    await scene.rest();
    return scene;
  }

  /** As whoever asks would, and counted. */
  insist<T>(ask: (idempotencyKey: string) => Promise<T>): Promise<T> {
    return insist(ask, () => this.repeated++);
  }

  slices(state: string): readonly string[] {
    return [...this.w.server.store.tables.slices.values()]
      .filter((slice) => slice.machine === this.w.machine && slice.state === state)
      .map(({ id }) => `slice-${id}`);
  }

  async assign(): Promise<void> {
    await this.server.slices.assign({ machine: this.w.machine, pool: 'pool', allocator: 'machine' });
    await soon(() => this.slices('assigned').length === 1);
  }

  /** Another machine, on which no broker ever was, takes the place of this one. */
  async moveIn(): Promise<void> {
    await this.drain();
    const former = this.w;
    if (former.machine === 'edge') this.#first = former;
    else await former[Symbol.asyncDispose]();
    const { server } = former;
    this.w = await LinkedBroker.join(server, `edge-${++this.#machines}`, undefined, { isSparing: true });
    this.senders.follow(this.w);
    this.local = this.w.local(1);
    await soon(() => this.w.isListening);
  }

  /** Until the stream says that it lives. */
  async heartbeat(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.w.link.onHeartbeat = () => resolve(undefined);
    await promise;
  }

  async drain(): Promise<void> {
    const [id = ''] = this.slices('assigned');
    await this.server.slices.drain({ id, revision: '*' }, { deadline_s: 0 });
    await soon(() => this.w.server.store.tables.slices.get(numberOf(id))?.state === 'free');
  }

  open(): Promise<Session> {
    return this.insist(() => this.local.sessions.open({ machine: this.w.machine, holder: 'web', ttl_s: 600 }));
  }

  async grant({ id: session }: Session): Promise<Lease> {
    const claims = [{ protocol: 'tcp' as const, ports: 8 }];
    const [lease] = (await this.insist(() => this.local.leases.grant({ session, claims }))).leases;
    if (lease?.state !== 'active') throw new Error('nothing was granted on the host');
    return lease;
  }

  async leased(): Promise<Lease> {
    return this.grant(await this.open());
  }

  /** As the server was told: at rest that is all of them. */
  get counts() {
    const { leases, sessions } = this.told;
    return { sessions: sessions.length, leases: leases.length };
  }

  get told() {
    const { reportedSessions, reportedLeases } = this.w.server.store.tables;
    const isOfThis = ({ machine }: Readonly<{ machine: string }>) => machine === this.w.machine;
    const [leases, sessions] = [[...reportedLeases.values()], [...reportedSessions.values()]];
    return { leases: leases.filter(isOfThis), sessions: sessions.filter(isOfThis) };
  }

  /** Until nothing moves any more, neither on the host nor over the link. */
  async rest(): Promise<void> {
    await soon(async () => this.w.isAtRest && (await this.w.isSwept()) && this.w.isAtRest);
  }

  async restart(): Promise<void> {
    await this.w.restart(async () => {});
    this.local = this.w.local(1);
    await soon(() => this.w.broker.status().told_through !== null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.w[Symbol.asyncDispose]();
    if (this.#first !== this.w) await this.#first?.[Symbol.asyncDispose]();
  }
}

async function soon(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(2);
}

type Use = Readonly<{ who: string; place: string; first: number; last: number; from: string; until: string | null }>;

/** From which instant until which each lease might be used. The pool has no rest: it ends when nobody is there. */
const usesHere = (leases: readonly Lease[]): readonly Use[] =>
  leases
    .filter(({ state }) => state !== 'refused')
    .map(({ id, token, holder, address, protocol, ports, granted_at: from, reusable_at: until }) => ({
      ...{ who: `${id} ${token} ${holder}`, place: `${address} ${protocol}`, ...ports, from, until },
    }));

/** The same, as the server was told. */
const usesTold = ({ told }: Scene): readonly Use[] =>
  told.leases
    .filter(({ state }) => state !== 'refused')
    .map((lease) => ({
      ...{ who: `lease-${lease.id} ${formatToken(lease)} ${lease.holder}`, ...lease.ports },
      place: `${lease.address} ${lease.protocol}`,
      ...{ from: formatInstant(lease.grantedAt), until: instant(lease.reusableAt) },
    }));

/** By nothing of the engine: where two might have used a port at one instant. Instants as text are in order. */
const usedTwice = (uses: readonly Use[]): readonly string[] =>
  uses.flatMap((a, index) =>
    uses.slice(index + 1).flatMap((b) => {
      const isSamePort = a.place === b.place && a.first <= b.last && b.first <= a.last;
      const isSameTime = (a.until === null || b.from < a.until) && (b.until === null || a.from < b.until);
      return isSamePort && isSameTime ? [`${a.who} and ${b.who} at once`] : [];
    }),
  );

type Tables = Readonly<{ leases: readonly Lease[]; sessions: readonly Session[] }>;

/** The broker's, all of it. */
const tablesHere = async ({ local }: Scene): Promise<Tables> => ({
  leases: (await local.leases.list({ limit: 1_000 })).items,
  sessions: (await local.sessions.list({ limit: 1_000 })).items,
});

/** Both tables, all of them, and the host. */
function judge(scene: Scene, { leases: here, sessions: opened }: Tables): void {
  const { w, senders } = scene;
  const { brokers, leases, machines } = w.server.store.tables;
  expect(senders.collisions).toEqual([]);
  expect(leases.size).toBe(0);
  expect(brokers.get(w.machine)?.epoch).toBe(w.broker.epoch);
  // The server never takes a guard for shut that is open: it has heard every keepalive that was answered.
  const seenAt = machines.get(w.machine)?.agent?.seenAt ?? 0;
  expect(seenAt).toBeGreaterThanOrEqual(Math.max(0, w.answeredAtUs - clocks_apart_us));
  expect(w.broker.status().rejected).toBe(0);
  const inOrder = (uses: readonly Use[]) => [...uses].sort((a, b) => (a.who < b.who ? -1 : 1));
  expect(inOrder(usesTold(scene))).toEqual(inOrder(usesHere(here)));
  expect(usedTwice(usesHere(here))).toEqual([]);
  // That a rest is over is not told: it follows by itself.
  const settled = (state: string) => (state === 'cooling' ? 'ended' : state);
  const told = scene.told.leases.map(
    (row) => `${row.id} ${settled(row.state)} ${row.ending} ${instant(row.activeAt)} ${instant(row.endingAt)}`,
  );
  const known = here.map(
    (row) => `${numberOf(row.id)} ${settled(row.state)} ${row.ending} ${row.active_at} ${row.ending_at}`,
  );
  expect(told.sort()).toEqual(known.sort());
  const sessions = opened.map(({ id, state, ending }) => `${numberOf(id)} ${state} ${ending}`);
  expect(scene.told.sessions.map(({ id, state, ending }) => `${id} ${state} ${ending}`).sort()).toEqual(
    sessions.sort(),
  );
  // Whoever may send is on the host, and nobody else.
  const active = here.filter(({ state }) => state === 'active').map(({ id }) => id);
  expect(w.held.map(({ id }) => id).sort()).toEqual(active.sort());
}

/** Everything that lives is ended; the machine has one slice. */
async function clear(scene: Scene, { sessions }: Tables): Promise<void> {
  for (const { id, state } of sessions) if (state === 'live') await scene.local.sessions.end(id);
  if (scene.slices('assigned').length === 0) await scene.assign();
  await scene.rest();
}

/** What is to be there before it, what is done, and how many sessions and leases come of that, however often it is asked. */
type Verb<Given> = Readonly<{
  given: (scene: Scene) => Promise<Given>;
  does: (scene: Scene, given: Given) => Promise<unknown>;
  opens?: number;
  grants?: number;
}>;
type Played = Readonly<{ messages: readonly Message[]; isCut: boolean; repeated: number }>;

/** Cut around the message of this name that is the `nth`; uncut without it. */
type Place = Readonly<{ name: string; nth: number; at: Break }>;

async function play<Given>(scene: Scene, verb: Verb<Given>, place?: Place): Promise<Played> {
  const given = await verb.given(scene);
  await scene.rest();
  const { link } = scene.w;
  const before = scene.counts;
  const [start, asked] = [link.messages.length, scene.repeated];
  let [nth, isCut] = [0, false];
  link.breaks = ({ name }) => {
    if (name !== place?.name || nth++ !== place.nth) return undefined;
    isCut = true;
    return place.at;
  };
  await verb.does(scene, given);
  await scene.rest();
  const messages = link.messages.slice(start);
  link.heal();
  const tables = await tablesHere(scene);
  expect(tables.sessions.length - before.sessions).toBe(verb.opens ?? 0);
  expect(tables.leases.length - before.leases).toBe(verb.grants ?? 0);
  judge(scene, tables);
  await clear(scene, tables);
  return { messages, isCut, repeated: scene.repeated - asked };
}

/** What travels when nothing is lost, also not by a slow machine: twice the same. */
async function recorded<Given>(scene: Scene, verb: Verb<Given>): Promise<readonly Message[]> {
  const namesOf = ({ messages }: Played) => messages.map(({ name }) => name).join();
  let last: Played | undefined;
  for (let attempt = 0; attempt < attempts_max; attempt++) {
    const played = await play(scene, verb);
    if (last && played.repeated === 0 && namesOf(played) === namesOf(last)) return played.messages;
    last = played.repeated === 0 ? played : undefined;
  }
  throw new Error('no two plays are the same');
}

/** Cuts around every message of the verb, one at a time: how many there are, and how often that was. */
async function cutEverywhere<Given>(verb: Verb<Given>): Promise<Readonly<{ messages: number; cuts: number }>> {
  await using scene = await Scene.open();
  const messages = await recorded(scene, verb);
  let cuts = 0;
  for (const [index, { name }] of messages.entries())
    for (const at of breaks) {
      const nth = messages.slice(0, index).filter((earlier) => earlier.name === name).length;
      for (let attempt = 0; ; attempt++) {
        if (attempt === attempts_max) throw new Error(`${name} number ${nth} did not come again`);
        if (!(await play(scene, verb, { name, nth, at })).isCut) continue;
        cuts++;
        break;
      }
    }
  return { messages: messages.length, cuts };
}

const verb = <Given>(name: string, of: Verb<Given>) => [name, () => cutEverywhere(of)] as const;
const nothing = async () => {};

const verbs = [
  verb('open, on the host', { given: nothing, does: (scene) => scene.open(), opens: 1 }),
  verb('open, over the server', {
    given: nothing,
    does: (scene) =>
      scene.insist((idempotencyKey) =>
        scene.server.sessions.open(
          { machine: 'edge', holder: 'web', ttl_s: 600, allocator: 'machine' },
          { idempotencyKey },
        ),
      ),
    opens: 1,
  }),
  verb('keepalive, on the host', {
    given: (scene) => scene.open(),
    does: (scene, { id }) => scene.local.sessions.keepalive(id),
  }),
  verb('keepalive, over the server', {
    given: (scene) => scene.open(),
    does: (scene, { id }) => scene.insist(() => scene.server.sessions.keepalive(id, here)),
  }),
  verb('end session, on the host', {
    given: (scene) => scene.leased(),
    does: (scene, { session }) => scene.local.sessions.end(session ?? ''),
  }),
  verb('end session, over the server', {
    given: (scene) => scene.leased(),
    does: (scene, { session }) =>
      scene.insist(async (idempotencyKey) => {
        try {
          await scene.server.sessions.end(session ?? '', { idempotencyKey, ...here });
        } catch (error) {
          // It was carried out, and the word of it was lost.
          if (!isFisheryError(error, 'session_ended')) throw error;
        }
      }),
  }),
  verb('grant, on the host', {
    given: (scene) => scene.open(),
    does: (scene, session) => scene.grant(session),
    grants: 1,
  }),
  verb('grant, over the server', {
    given: (scene) => scene.open(),
    does: (scene, { id: session }) =>
      scene.insist((idempotencyKey) =>
        scene.server.leases.grant(
          { session, claims: [{ protocol: 'tcp', ports: 16 }] },
          { idempotencyKey, wait: 'stored', timeoutS: 1, ...here },
        ),
      ),
    grants: 1,
  }),
  verb('release, on the host', {
    given: (scene) => scene.leased(),
    does: (scene, lease) => scene.local.leases.release(lease),
  }),
  verb('release, over the server', {
    given: (scene) => scene.leased(),
    does: (scene, lease) =>
      scene.insist((idempotencyKey) => scene.server.leases.release(lease, { idempotencyKey, ...here })),
  }),
  verb('revoke one', {
    given: (scene) => scene.leased(),
    does: (scene, { id }) =>
      scene.insist((idempotencyKey) => scene.server.leases.revoke(id, { deadline_s: 0 }, { idempotencyKey, ...here })),
  }),
  verb('mass revoke', {
    given: async (scene) => [await scene.leased(), await scene.leased()],
    does: async (scene) => {
      const { id } = await scene.server.revocations.create({ machine: 'edge', holder: 'web', deadline_s: 0 });
      await soon(async () => (await scene.server.revocations.get(id)).machine_leases_left === 0);
    },
  }),
  verb('a slice is given', { given: (scene) => scene.drain(), does: (scene) => scene.assign() }),
  verb('a slice is given back', { given: (scene) => scene.leased(), does: (scene) => scene.drain() }),
  verb('a machine that listens anew', {
    given: (scene) => scene.leased(),
    does: async (scene) => scene.w.listenAnew(),
  }),
  verb('a broker that starts anew reports', {
    given: (scene) => scene.leased(),
    does: (scene) => scene.restart(),
  }),
  verb('the first broker of a machine begins', {
    given: (scene) => scene.moveIn(),
    does: async (scene) => {
      await scene.assign();
      const here = () => scene.insist(() => scene.local.slices.list({ state: 'assigned' }));
      await soon(async () => (await here()).items.length === 1);
      await scene.leased();
    },
    opens: 1,
    grants: 1,
  }),
  verb('keepalive of the agent', {
    given: (scene) => scene.leased(),
    does: async ({ w }) => {
      while (!(await w.beat(5_000)));
    },
  }),
  verb('heartbeat of the stream', {
    given: (scene) => scene.leased(),
    does: (scene) => scene.heartbeat(),
  }),
] as const;

describe.concurrent('a link that is cut around every message, in each direction', () => {
  it.each(verbs)('%s: both tables agree, and nothing was given twice', { timeout: 240_000 }, async (name, cutAll) => {
    const { messages, cuts } = await cutAll();
    // The server does not hear of it: sessions that were opened on the host expire only there.
    expect(messages > 0).toBe(name !== 'keepalive, on the host');
    expect(cuts).toBe(messages * breaks.length);
  });
});
