import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  connections_max,
  connections_per_caller_max,
  Door,
  pipelined_max,
  type Caller,
} from '../../src/broker/door.ts';
import { err, ok, type Result } from '../../src/net/result.ts';
import { until } from '../support/broker-world.ts';

let folder: string;
let server: Server;
let door: Door<Caller>;
let who: Result<Caller, string>;
let now = 0;
const open: ServerResponse[] = [];
let asked = 0;
const clients: Socket[] = [];

const caller = (key: string): Result<Caller, string> => ok({ key, isOperator: key === 'root' });
const ask = 'GET / HTTP/1.1\r\nHost: broker\r\n\r\n';

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-door-'));
  asked = 0;
  server = createServer((_request, response) => {
    asked++;
    open.push(response);
  });
  who = caller('web');
  door = new Door(server, { callerOf: () => who, now: () => now });
  server.listen(join(folder, 'socket'));
  await once(server, 'listening');
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  open.length = 0;
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
  rmSync(folder, { recursive: true });
});

async function come(): Promise<Socket> {
  const client = connect(join(folder, 'socket'));
  client.on('error', () => {});
  clients.push(client);
  await once(client, 'connect');
  return client;
}
const isCut = async (client: Socket): Promise<void> => {
  client.resume();
  if (!client.closed) await once(client, 'close');
};

describe('the door of a broker', () => {
  it('tells whoever is nobody here why, and nothing of what it says is parsed', async () => {
    who = err('no holder of machine "edge" has user id 900');
    const client = await come();
    client.write(ask);
    const answer = await text(client);
    expect(answer).toMatch(/^HTTP\/1\.1 403 /);
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({
      code: 'unknown_user',
      detail: 'no holder of machine "edge" has user id 900',
    });
    const mute = await come();
    await isCut(mute);
    expect([asked, door.connections]).toEqual([0, 0]);
  });

  it('cuts off whoever sends a flood on a connection, with all its connections, and lets it in again later', async () => {
    const other = await come();
    const flood = await come();
    await until(() => door.connections === 2);
    flood.write(ask.repeat(1_000));
    await Promise.all([isCut(flood), isCut(other)]);
    expect(asked).toBeLessThanOrEqual(pipelined_max);
    const early = await come();
    early.write(ask);
    expect(await text(early)).toMatch(/^HTTP\/1\.1 429 /);
    // Nobody else pays for it.
    who = caller('mail');
    (await come()).write(ask);
    await until(() => open.some(({ socket }) => socket && door.callerAt(socket)?.key === 'mail'));
    now += 1_001;
    who = caller('web');
    await come();
    await until(() => door.connections === 2);
  });

  it('answers one after the other what a client sends before it has its answers', async () => {
    const client = await come();
    const heard = text(client);
    client.write(ask.repeat(pipelined_max));
    let ended = 0;
    for (; ended < pipelined_max; ended++) {
      await until(() => open.length > ended);
      const response = open[ended];
      response?.setHeader('connection', ended === pipelined_max - 1 ? 'close' : 'keep-alive').end('done');
    }
    expect((await heard).match(/200 OK/g)).toHaveLength(pipelined_max);
  });

  it('gives no caller more than its connections, nor all of them more than there are, and root always another', async () => {
    const names = Array.from({ length: connections_max / connections_per_caller_max }, (_, index) => `holder-${index}`);
    for (const name of names) {
      who = caller(name);
      const before = door.connections;
      await Promise.all(Array.from({ length: connections_per_caller_max }, come));
      await until(() => door.connections === before + connections_per_caller_max);
      const more = await come();
      more.write(ask);
      expect(await text(more)).toMatch(/^HTTP\/1\.1 429 /);
    }
    who = caller('late');
    const late = await come();
    late.write(ask);
    expect(await text(late)).toMatch(/^HTTP\/1\.1 429 /);
    who = caller('root');
    (await come()).write(ask);
    await until(() => asked === 1);
    clients[0]?.destroy();
    await until(() => door.connections === connections_max);
    who = caller('late');
    (await come()).write(ask);
    await until(() => asked === 2);
  });
});
