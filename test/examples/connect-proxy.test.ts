import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createProxy, parseAuthority, type Proxy, type ProxyOptions } from '../../examples/connect-proxy/proxy.ts';
import { ConnectError, type ConnectFailure } from '../../src/sdk/index.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

const listening = async (server: net.Server): Promise<number> => {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
};

/** An origin that does with each connection what the test says. */
const originWith = (visit: (socket: Socket) => void) => listening(net.createServer({ allowHalfOpen: true }, visit));

async function proxyWith(more: Partial<ProxyOptions> = {}): Promise<{ proxy: Proxy; port: number; lines: string[] }> {
  const lines: string[] = [];
  const proxy = createProxy({
    connect: async ({ port }) => {
      const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
      await once(socket, 'connect');
      return socket;
    },
    idle_ms: 5_000,
    tunnels_max: 10,
    log: (line) => lines.push(line),
    ...more,
  });
  return { proxy, port: await listening(proxy.server), lines };
}

/** A client that asks for a tunnel; `answer` is the head of what the proxy says. */
async function ask(port: number, authority: string, early = '') {
  const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true }).on('error', () => undefined);
  cleanups.push(() => socket.destroy());
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n${early}`);
  let text = '';
  while (!text.includes('\r\n\r\n')) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    text += chunk.toString('latin1');
  }
  const end = text.indexOf('\r\n\r\n') + 4;
  socket.pause();
  if (text.length > end) socket.unshift(Buffer.from(text.slice(end), 'latin1'));
  return { socket, answer: text.slice(0, end) };
}

const readAll = async (socket: Socket): Promise<Buffer> => {
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts);
};

/** A tunnel that breaks ends by a reset: its end must not look like that of a whole answer. */
const brokenOff = (socket: Socket) =>
  expect(once(socket.resume(), 'close')).rejects.toMatchObject({ code: 'ECONNRESET' });

describe('the CONNECT proxy', () => {
  it('carries both directions, and what the client sent too early', async () => {
    const origin = await originWith((socket) => socket.pipe(socket));
    const { port, lines } = await proxyWith();
    const { socket, answer } = await ask(port, `origin.example:${origin}`, 'early ');
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    socket.end('and late');
    expect((await readAll(socket)).toString()).toBe('early and late');
    expect(lines).toEqual([
      expect.stringMatching(new RegExp(`^origin\\.example:${origin} from 127\\.0\\.0\\.1:\\d+$`)),
    ]);
  });

  it('lets a client that has said everything wait for its answer', async () => {
    const origin = await originWith((socket) => {
      const heard: Buffer[] = [];
      socket.on('data', (data) => heard.push(data));
      // Answers only after the client's end has come through.
      socket.on('end', () => setTimeout(() => socket.end(`heard ${Buffer.concat(heard).toString()}`), 50));
    });
    const { port } = await proxyWith();
    const { socket } = await ask(port, `o:${origin}`);
    socket.end('everything');
    expect((await readAll(socket)).toString()).toBe('heard everything');
  });

  it('lets the client go on after the origin has said everything', async () => {
    const heard = Promise.withResolvers<string>();
    const origin = await originWith((socket) => {
      socket.end('that is all');
      void readAll(socket).then((all) => heard.resolve(all.toString()));
    });
    const { port } = await proxyWith();
    const { socket } = await ask(port, `o:${origin}`);
    expect((await readAll(socket)).toString()).toBe('that is all');
    socket.end('still here');
    expect(await heard.promise).toBe('still here');
  });

  it('loses nothing of a large answer that a slow client reads, and does not hoard it', async () => {
    const size = 24 * 1024 * 1024;
    let written = 0;
    const origin = await originWith((socket) => {
      const block = Buffer.alloc(64 * 1024, 'x');
      const more = () => {
        while (written < size) {
          written += block.length;
          if (!socket.write(block)) {
            socket.once('drain', more);
            return;
          }
        }
        socket.end();
      };
      more();
    });
    const { port } = await proxyWith();
    const { socket } = await ask(port, `o:${origin}`);
    await new Promise((done) => setTimeout(done, 300));
    // What is under way is bounded by socket buffers on the path, not by the size of the answer.
    expect(written).toBeLessThan(size / 2);
    expect((await readAll(socket)).length).toBe(size);
  });

  it('breaks the client when the origin breaks', async () => {
    const origin = await originWith((socket) => setTimeout(() => socket.resetAndDestroy(), 30));
    const { port, proxy } = await proxyWith();
    const { socket } = await ask(port, `o:${origin}`);
    await brokenOff(socket);
    expect(proxy.tunnels()).toBe(0);
  });

  it('breaks the origin when the client breaks', async () => {
    const closed = Promise.withResolvers<true>();
    const origin = await originWith((socket) => socket.on('close', () => closed.resolve(true)).resume());
    const { port } = await proxyWith();
    const { socket } = await ask(port, `o:${origin}`);
    socket.resetAndDestroy();
    await closed.promise;
  });

  it('closes a tunnel over which nothing moves', async () => {
    const origin = await originWith(() => undefined);
    const { port } = await proxyWith({ idle_ms: 100 });
    const { socket } = await ask(port, `o:${origin}`);
    await brokenOff(socket);
  });

  it('cuts every tunnel when the right to the ports is lost', async () => {
    const origin = await originWith(() => undefined);
    const { port, proxy } = await proxyWith();
    const both = [await ask(port, `o:${origin}`), await ask(port, `o:${origin}`)];
    expect(proxy.tunnels()).toBe(2);
    const broken = both.map(({ socket }) => brokenOff(socket));
    proxy.cutTunnels();
    await Promise.all(broken);
    await expect.poll(() => proxy.tunnels()).toBe(0);
  });

  it.each<[ConnectFailure, number, string]>([
    ['ports_exhausted', 503, 'connection_limit_reached'],
    ['unusable_lease', 503, 'proxy_internal_error'],
    ['address_not_local', 503, 'proxy_configuration_error'],
    ['port_range', 503, 'proxy_configuration_error'],
    ['resolve', 502, 'dns_error'],
    ['refused', 502, 'connection_refused'],
    ['unreachable', 502, 'destination_ip_unroutable'],
    ['failed', 502, 'destination_unavailable'],
    ['timeout', 504, 'connection_timeout'],
  ])('says why there is no tunnel: %s is %i', async (failure, status, type) => {
    const { port } = await proxyWith({
      connect: () => Promise.reject(new ConnectError(failure, `because of ${failure}`)),
    });
    const { socket, answer } = await ask(port, 'o:80');
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} \\w`));
    expect(answer).toContain(`Proxy-Status: fishery-connect-proxy; error=${type}\r\n`);
    expect(answer.includes('Retry-After: ')).toBe(status === 503);
    expect((await readAll(socket)).toString()).toBe(`because of ${failure}\n`);
  });

  it('refuses a target without a port, and any other method', async () => {
    const { port } = await proxyWith();
    const { answer } = await ask(port, 'origin.example');
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    const plain = await fetch(`http://127.0.0.1:${port}/`);
    expect(plain.status).toBe(405);
    expect(plain.headers.get('allow')).toBe('CONNECT');
  });

  it('refuses more tunnels than it may have', async () => {
    const origin = await originWith(() => undefined);
    const { port } = await proxyWith({ tunnels_max: 1 });
    const first = await ask(port, `o:${origin}`);
    expect((await ask(port, `o:${origin}`)).answer).toMatch(/^HTTP\/1\.1 503 [^]*Retry-After: 1\r\n/);
    first.socket.resetAndDestroy();
    await expect.poll(async () => (await ask(port, `o:${origin}`)).answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('gives up an attempt whose client has gone', async () => {
    const aborted = Promise.withResolvers<true>();
    const { port } = await proxyWith({
      connect: (_target, signal) =>
        new Promise((_done, fail) =>
          signal.addEventListener('abort', () => {
            aborted.resolve(true);
            fail(signal.reason as Error);
          }),
        ),
    });
    const socket = net.connect(port, '127.0.0.1', () => socket.write('CONNECT o:80 HTTP/1.1\r\nhost: o\r\n\r\n'));
    setTimeout(() => socket.resetAndDestroy(), 50);
    await aborted.promise;
  });
});

it.each([
  ['origin.example:443', { host: 'origin.example', port: 443 }],
  ['203.0.113.1:80', { host: '203.0.113.1', port: 80 }],
  ['[2001:db8::1]:443', { host: '2001:db8::1', port: 443 }],
  ['origin.example', undefined],
  ['origin.example:0', undefined],
  ['origin.example:65536', undefined],
  ['user@origin.example:80', undefined],
  ['2001:db8::1:443', undefined],
  ['origin.example:80/path', undefined],
  [':80', undefined],
  ['', undefined],
])('reads the authority "%s"', (authority, target) => {
  expect(parseAuthority(authority)).toEqual(target);
});
