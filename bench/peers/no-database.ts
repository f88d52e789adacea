/**
 * What a durable grant is held against: the same application (token, schema, route, presentation, problem documents,
 * metrics) and the same queue, which answers all commands that arrived together at once; but no rules and no database.
 * What a grant costs beyond this is the engine, the rows and the fsync.
 */
import { randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { buildApp } from '../../src/api/app.ts';
import { formatSecret, hashSecret, secretBytes } from '../../src/api/bearer.ts';
import { defaultLimits, type Parts } from '../../src/api/parts.ts';
import { Feed } from '../../src/feed/feed.ts';
import type { Command, CommandKind, Output } from '../../src/leases/commands.ts';
import type { LeaseError } from '../../src/leases/errors.ts';
import type { AccessToken, Lease } from '../../src/leases/model.ts';
import { ipv4FromNumber } from '../../src/net/address.ts';
import { ok, type Result } from '../../src/net/result.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';

type Waiting = Readonly<{ command: Command; resolve: (result: Result<unknown, LeaseError>) => void }>;

const madeUp: Lease = {
  ...{ id: 0, slice: 13, generation: 1, epoch: 1, session: 12, machine: 'bench', holder: 'proxy', pool: 'bench' },
  ...{ address: ipv4FromNumber(0x64_40_00_01), protocol: 'tcp', ports: { first: 2_047, last: 2_047 } },
  ...{
    mode: 'exclusive',
    binding: null,
    state: 'active',
    ending: null,
    refusal: null,
    reason: null,
    forced: false,
    unit: null,
  },
  ...{ grantedAt: 0, activeAt: 0, endingAt: null, emptyAt: null, reusableAt: null, endedAt: null, revision: 0 },
};

/** The queue alone. */
class MadeUpLeases {
  #waiting: Waiting[] = [];
  #revision = 1_000;

  execute<K extends CommandKind>(command: Command<K>): Promise<Result<Output<K>, LeaseError>> {
    return new Promise((resolve) => {
      // The answer is one of the command's kind, see `#outcomeOf`.
      this.#waiting.push({ command, resolve } as Waiting);
      if (this.#waiting.length === 1) setImmediate(() => this.#answer());
    });
  }

  health() {
    return { writable: true, reason: null, waitingCommands: this.#waiting.length };
  }

  onEvents() {
    return () => {};
  }

  #answer(): void {
    const batch = this.#waiting;
    this.#waiting = [];
    for (const { command, resolve } of batch) resolve(ok(this.#outcomeOf(command)));
  }

  #outcomeOf(command: Command): unknown {
    // What the server does by itself from time to time, beside what it is asked for.
    if (command.kind === 'noteTokenUses') return null;
    if (command.kind !== 'grantLeases') throw new Error(`there is no ${command.kind} without a database`);
    return command.claims.map((claim): Lease => {
      const revision = ++this.#revision;
      const at = Date.now() * 1_000;
      return { ...madeUp, protocol: claim.protocol, id: revision, revision, grantedAt: at, activeAt: at };
    });
  }
}

const store = new MemoryStore();
const secret = formatSecret(randomBytes(secretBytes));
const token: AccessToken = {
  ...{ id: 1, name: 'bench', role: 'holder', machine: 'bench', holder: 'proxy', router: null },
  ...{ hash: hashSecret(secret), formerHash: null, formerUntil: null },
  quota: { requestsPerS: null, requestsBurst: null, watchersMax: null },
  ...{ createdAt: 0, rotatedAt: null, expiresAt: null, revokedAt: null, lastUsedAt: null },
};
store.tables.accessTokens.set(token.id, token);
const parts: Parts = {
  leases: new MadeUpLeases(),
  reader: store.reader,
  feed: new Feed({ log: store.reader }),
  clock: new SteadyClock(),
  logger: createLogger({ level: 'warn' }),
  version: '0.0.0',
  randomBytes,
  metricsOpen: true,
  processMetrics: true,
  limits: defaultLimits,
};
const app = buildApp(parts);
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`token       ${secret}`);
console.log(`listening   http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
