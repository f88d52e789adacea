import type { Fetch } from './tls.ts';

/** The path of `unix:/run/fishery/broker.sock`; undefined for an address of another kind. */
export const socketPathOf = (url: string): string | undefined =>
  /^unix:\/(?!\/)./.test(url) ? url.slice('unix:'.length) : undefined;

/**
 * A fetch over a Unix socket, as the broker of a machine listens on: whoever is at the other end knows by the kernel who calls.
 * Host and port of what is fetched mean nothing.
 */
export function fetchOverUnix(socketPath: string): Fetch {
  // Loaded when it is needed: over the network a client gets along with what Node brings.
  const loading = import('undici').then(({ Agent, fetch: undiciFetch }) => {
    return { dispatcher: new Agent({ connect: { socketPath } }), undiciFetch };
  });
  // Whoever calls hears of it.
  loading.catch(() => {});
  return async (url, init) => {
    const { dispatcher, undiciFetch } = await loading;
    return undiciFetch(url, { ...init, dispatcher });
  };
}
