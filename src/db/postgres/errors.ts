import { DatabaseError } from 'pg';
import { StoreError, type StoreFailure } from '../../leases/store.ts';

/** By SQLSTATE, or by its class, its first two characters; the first row that fits. */
const failures: readonly (readonly [code: string, failure: StoreFailure, says: string])[] = [
  ['23', 'constraint', 'the database refused a row'],
  ['22', 'constraint', 'the database refused a value'],
  ['53100', 'full', 'the disk of the database is full: free some space, nothing that was answered is lost'],
  ['53', 'busy', 'the database server is out of connections or memory'],
  ['25006', 'read_only', 'the database takes no writes: it is a standby, or was set read-only'],
  ['55P03', 'busy', 'another server held the database for too long'],
  ['57014', 'busy', 'the database took too long'],
  ['40', 'busy', 'the database had to undo the transaction, several times over'],
  ['XX001', 'corrupt', 'a page of the database is damaged: restore a backup'],
  ['XX002', 'corrupt', 'an index of the database is damaged: rebuild it, or restore a backup'],
  ['28P01', 'io', 'the database refuses the password: look at database_url'],
  ['28', 'io', 'the database refuses this role or host: look at database_url and at pg_hba.conf'],
  ['3D000', 'io', 'there is no such database: create it, or look at database_url'],
  ['42501', 'io', 'the role of database_url may not do this'],
  ['57', 'io', 'the database server is stopping or starting'],
];

/** What PostgreSQL or the way to it reports, as a failure of the store; anything else is a bug and stays as it is. */
export function storeErrorOf(error: unknown): unknown {
  if (error instanceof DatabaseError) {
    const code = error.code ?? '';
    const [, failure, says] = failures.find(([begin]) => code.startsWith(begin)) ?? ['', undefined, ''];
    // Whatever else the server objects to is a statement that should not have been sent.
    return failure === undefined ? error : new StoreError(failure, `${says} (${code}: ${error.message})`, error);
  }
  if (error instanceof Error && /client password must be a string/.test(error.message))
    return new StoreError(
      'io',
      'the database asks for a password: put it into database_url, PGPASSWORD or ~/.pgpass',
      error,
    );
  if (isConnectionLoss(error))
    return new StoreError('io', `the database cannot be reached (${messageOf(error)})`, error);
  return error;
}

/** The same, for whoever has just named the database: says which it is, and never the password. */
export function namingDatabase(url: string, cause: unknown): unknown {
  const error = storeErrorOf(cause);
  return error instanceof StoreError
    ? new StoreError(error.failure, `${shownUrl(url)}: ${error.message}`, cause)
    : error;
}

/** The URL without what nobody may read in a log. */
function shownUrl(url: string): string {
  const parsed = URL.parse(url);
  if (!parsed) return 'the database of database_url';
  return `${parsed.hostname}${parsed.port && `:${parsed.port}`}${parsed.pathname}`;
}

/**
 * The transaction was undone for a reason that lies in others, and may well succeed the next time: the database chose it
 * to end a deadlock, or the connection had broken before the commit, perhaps long ago and while nobody used it.
 */
export const isWorthRetrying = (error: unknown): boolean =>
  isConnectionLoss(error) || (error instanceof DatabaseError && (error.code === '40001' || error.code === '40P01'));

/** Of Node.js: from looking up the name to TLS. */
const connectionCodes =
  /^(?:ECONN|ENOTFOUND|EAI_|EHOST|ENET|ETIMEDOUT|EPIPE|CERT_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/;
/** Of pg, which gives these no code. */
const connectionMessages =
  /^(?:Connection terminated|Client has encountered|Client was closed|timeout exceeded|Query read timeout|The server does not support SSL)/;

/** Whether the server has nothing to say any more: what it made of the last statement is unknown then. */
export function isConnectionLoss(error: unknown): error is Error {
  if (error instanceof DatabaseError) return error.severity === 'FATAL';
  if (!(error instanceof Error)) return false;
  return ('code' in error && connectionCodes.test(String(error.code))) || connectionMessages.test(error.message);
}

/** A name with several addresses fails with all that went wrong, and an empty message. */
function messageOf(error: Error): string {
  const parts: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
  return parts.map((part) => (part instanceof Error ? part.message : String(part))).join('; ');
}
