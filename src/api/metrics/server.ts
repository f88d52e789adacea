import { Counter, Gauge, type Registry } from 'prom-client';
import type { AccessToken } from '../../leases/model.ts';
import { isLiveToken } from '../../leases/tokens.ts';
import type { Context } from '../context.ts';
import { denialReasons } from '../denials.ts';
import { firstOf, shared } from './looked-up.ts';

/** Tokens that are looked through, and of these the first to expire that are listed. */
const tokens_looked_at_max = 10_000;
const tokens_listed_max = 100;
const tokens_age_us_max = 60_000_000;

/** How the server itself is doing. */
export function serverMetrics(context: Context, registry: Registry): void {
  const { reader, clock, epochs, feed, watchers, flows, leases, denials, denialLog, tls } = context;
  const registers = [registry];
  const gauge = (name: string, help: string, value: () => number | Promise<number>) =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await value());
      },
    });

  gauge('fishery_store_writable', '1 when the last command could be written, 0 when nothing can.', () =>
    leases.health().writable ? 1 : 0,
  );
  gauge(
    'fishery_epoch_in_doubt',
    '1 while the table may lack what was answered: nothing is granted, ended or freed.',
    () => (epochs.current.confirmedAt === null ? 1 : 0),
  );
  gauge('fishery_log_revision', 'The newest revision of the log.', () => reader.revision());
  gauge('fishery_feed_lag_revisions', 'Changes in the log that watchers of this server were not told yet.', async () =>
    // Before the first change since its start it has told nothing, and owes nothing.
    feed.published === 0 ? 0 : Math.max(0, (await reader.revision()) - feed.published),
  );
  gauge('fishery_commands_waiting', 'Commands that wait for their commit.', () => leases.health().waitingCommands);
  gauge('fishery_watch_streams', 'Open event streams.', () => watchers.size);
  gauge('fishery_feed_followers', 'Followers of the log.', () => feed.followerCount);
  gauge('fishery_flow_queries_pending', 'Questions to flow logs that are not answered yet.', () => flows.pending);
  new Counter({
    name: 'fishery_requests_denied_total',
    help: 'Requests that were turned away before anything looked at what they ask for, by why.',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset();
      for (const reason of denialReasons) this.inc({ reason }, denials.of(reason));
    },
  });
  new Counter({
    name: 'fishery_audit_denials_dropped_total',
    help: 'Denied requests that are not in the audit log, because too many came or nothing could be written.',
    registers,
    collect() {
      this.reset();
      this.inc(denialLog.dropped);
    },
  });
  const tokens = shared(
    () => clock.nowUs(),
    () => firstOf((page) => reader.accessTokens({}, page), tokens_looked_at_max),
    tokens_age_us_max,
  );
  new Gauge({
    name: 'fishery_token_expiry_timestamp_seconds',
    help: 'When live tokens expire; the first hundred to do so.',
    labelNames: ['token', 'name', 'role'],
    registers,
    async collect() {
      this.reset();
      for (const { id, name, role, expiresAt } of firstToExpire(await tokens(), clock.nowUs()))
        this.set({ token: `token-${id}`, name, role }, (expiresAt ?? 0) / 1e6);
    },
  });
  if (tls) {
    gauge(
      'fishery_tls_certificate_expiry_timestamp_seconds',
      'When the certificate of this server ends.',
      () => tls.expiresAtMs / 1_000,
    );
    new Counter({
      name: 'fishery_tls_handshake_failures_total',
      help: 'Connections that ended before their first request, for want of a certificate or of a common language.',
      registers,
      collect() {
        this.reset();
        this.inc(tls.handshakeFailures);
      },
    });
  }
  new Gauge({ name: 'fishery_build_info', help: 'Always 1.', labelNames: ['version'], registers }).set(
    { version: context.version },
    1,
  );
}

const firstToExpire = (tokens: readonly AccessToken[], now: number): readonly AccessToken[] =>
  tokens
    .filter((token) => token.expiresAt !== null && isLiveToken(token, now))
    .sort((a, b) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0))
    .slice(0, tokens_listed_max);
