import { familyOf, type Address } from '../../net/address.ts';
import type { Protocol } from '../../net/protocol.ts';
import type { AddressBook } from '../packet/address-book.ts';
import { flowProtocol, protocolName } from '../packet/packet.ts';

/** What tells flows apart, as columns: a row is a flow of the table, or an entry of the log. */
export type TupleRows = Readonly<{
  protocol: Uint8Array;
  client: Uint32Array;
  clientPort: Uint16Array;
  leased: Uint32Array;
  leasedPort: Uint16Array;
  remote: Uint32Array;
  remotePort: Uint16Array;
}>;

export const makeTupleRows = (count: number): TupleRows => ({
  protocol: new Uint8Array(count),
  client: new Uint32Array(count),
  clientPort: new Uint16Array(count),
  leased: new Uint32Array(count),
  leasedPort: new Uint16Array(count),
  remote: new Uint32Array(count),
  remotePort: new Uint16Array(count),
});

/** Both rows exist: the caller got them from the table and from the log. */
export function copyTuple(from: TupleRows, row: number, to: TupleRows, target: number): void {
  to.protocol[target] = from.protocol[row]!;
  to.client[target] = from.client[row]!;
  to.clientPort[target] = from.clientPort[row]!;
  to.leased[target] = from.leased[row]!;
  to.leasedPort[target] = from.leasedPort[row]!;
  to.remote[target] = from.remote[row]!;
  to.remotePort[target] = from.remotePort[row]!;
}

/** A row in words. */
export type TupleText = Readonly<{
  protocol: Protocol;
  client: Address;
  /** ICMP: the identifier that the client chose. */
  clientPort: number;
  /** The leased address and port; ICMP: the identifier outside. */
  address: Address;
  port: number;
  /** null where the mapping is one toward all remotes, as for UDP by default, */
  remote: Address | null;
  /** and where it is one toward all their ports. */
  remotePort: number | null;
}>;

/** `book`: where these rows have their IPv6 addresses. */
export function describeTuple(rows: TupleRows, row: number, book: AddressBook): TupleText {
  const number = rows.protocol[row]!;
  const protocol = protocolName(number);
  if (protocol === undefined) throw new Error(`row ${row} has no protocol`);
  return {
    protocol,
    client: book.textOf(number, rows.client[row]!),
    clientPort: rows.clientPort[row]!,
    address: book.textOf(number, rows.leased[row]!),
    port: rows.leasedPort[row]!,
    remote: rows.remote[row] === 0 ? null : book.textOf(number, rows.remote[row]!),
    remotePort: rows.remotePort[row] === 0 ? null : rows.remotePort[row]!,
  };
}

/** Who had this tuple at this instant? */
export type FlowQuery = Readonly<{
  protocol: Protocol;
  /** The leased address and port (ICMP: the identifier). */
  address: Address;
  port: number;
  /** null: toward any remote. */
  remote: Address | null;
  remotePort: number | null;
  /** Microseconds since 1970. */
  at: number;
}>;

/** The query in the numbers that these rows have of addresses; null where anything matches, as does a part that the mapping ignores. */
export type WantedTuple = Readonly<{
  protocol: number;
  leased: number;
  leasedPort: number;
  remote: number | null;
  remotePort: number | null;
}>;

export function wantedTuple(query: FlowQuery, book: AddressBook): WantedTuple {
  const protocol = flowProtocol(query.protocol, familyOf(query.address));
  return {
    protocol,
    leased: book.numberOf(query.address),
    leasedPort: query.port,
    remote: query.remote === null ? null : book.numberOf(query.remote),
    remotePort: query.remotePort,
  };
}

export function rowMatches(rows: TupleRows, row: number, wanted: WantedTuple): boolean {
  return (
    rows.leasedPort[row] === wanted.leasedPort &&
    rows.leased[row] === wanted.leased &&
    rows.protocol[row] === wanted.protocol &&
    isAnyOr(wanted.remote, rows.remote[row]!) &&
    isAnyOr(wanted.remotePort, rows.remotePort[row]!)
  );
}

/** 0 in the row: the mapping does not look at it, so the flow is toward any. */
const isAnyOr = (wanted: number | null, found: number): boolean => wanted === null || found === 0 || found === wanted;
