/**
 * The client side of Fishery: typed calls, a stream of changes that survives lost connections, sessions that stay alive,
 * and sockets whose local port is in a lease. What is not listed here is not public.
 */
export { FisheryClient, everyItem } from './client.ts';
export type {
  CallOptions,
  ChangeOptions,
  EventFilter,
  GrantOptions,
  PageOptions,
  RouteFilter,
  SayOptions,
  WhoseOptions,
} from './client.ts';
export type { LogPosition } from './seen.ts';
export type { ClientOptions } from './transport.ts';
export { socketPathOf } from './unix.ts';
export { tlsFilesOf, type TlsFiles } from './tls.ts';
export { FisheryError, isFisheryError, localCodes } from './errors.ts';
export { follow, type Followed } from './follow.ts';
export { followRoutes, type FollowedRoutes } from './follow-routes.ts';
export { followEvents, type FollowedEvents } from './follow-events.ts';
export type { FollowOptions } from './follow-log.ts';
export { attributeAll } from './attribute-all.ts';
export { keepAlive, type KeepAlive, type KeepAliveOptions, type SessionLoss } from './keepalive.ts';
export { watchLeases, type WatchLeasesOptions } from './watch-leases.ts';
export { connect, ConnectError, type ConnectFailure, type ConnectOptions } from './connect.ts';
