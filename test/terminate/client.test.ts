import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { connectTerminator } from '../../src/terminate/client.ts';
import { Lines, protocolVersion, type Request } from '../../src/terminate/protocol.ts';

let folder: string;
let path: string;
const servers: Server[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-terminator-'));
  path = join(folder, 'terminator.sock');
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true, force: true });
});

const hello = { protocol: protocolVersion, version: '1.2.3', pid: 7, port: 7_490, uid: null, log: null };

/** Somebody who listens there: says this first, and then what `answer` makes of each request. */
async function terminator(first: string, answer: (request: Request, socket: Socket) => void = () => {}): Promise<void> {
  const server = createServer((socket) => {
    const lines = new Lines();
    socket.on('error', () => {}).setEncoding('utf8');
    socket.on('data', (text: string) => {
      for (const line of lines.take(text)) answer(JSON.parse(line) as Request, socket);
    });
    socket.write(first);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
}
const say = (socket: Socket, what: object) => socket.write(`${JSON.stringify(what)}\n`);

it('where nobody is, that is said', async () => {
  expect(await connectTerminator(path)).toMatchObject({ ok: false, error: expect.stringContaining(path) as unknown });
});

it.each([
  [`${JSON.stringify({ ...hello, protocol: 99 })}\n`, 'is of version 1.2.3, which speaks another language'],
  ['SSH-2.0-OpenSSH\n', 'no terminator answers'],
])('somebody else is not taken for one: %j', async (first, says) => {
  await terminator(first);
  expect(await connectTerminator(path)).toMatchObject({ ok: false, error: expect.stringContaining(says) as unknown });
});

it('answers find who asked, in whatever order and pieces they come', async () => {
  const asked: number[] = [];
  await terminator(`${JSON.stringify(hello)}\n`, ({ id, operation }, socket) => {
    asked.push(id);
    if (operation !== 'busiest') return;
    const [first, second] = asked;
    const late = JSON.stringify({ id: first, answer: 3 });
    socket.write(`${JSON.stringify({ id: second, answer: [] })}\n${late.slice(0, 5)}`);
    setImmediate(() => socket.write(`${late.slice(5)}\n`));
  });
  const there = await connectTerminator(path);
  if (!there.ok) throw new Error(there.error);
  expect(await Promise.all([there.value.ask('fence', null), there.value.ask('busiest', { max: 1 })])).toEqual([3, []]);
  there.value.close();
});

it('what goes wrong is told to who asked', async () => {
  await terminator(`${JSON.stringify(hello)}\n`, ({ id }, socket) => say(socket, { id, error: 'it is user 7' }));
  const there = await connectTerminator(path);
  if (!there.ok) throw new Error(there.error);
  await expect(there.value.ask('fence', null)).rejects.toThrow('it is user 7');
  there.value.close();
});

it.each([
  ['ends', (socket: Socket) => socket.end()],
  ['says what is no answer', (socket: Socket) => socket.write('nonsense\n')],
])('when it %s, whoever waits hears of it, and it is gone', async (_what, act) => {
  await terminator(`${JSON.stringify(hello)}\n`, (_request, socket) => void act(socket));
  const there = await connectTerminator(path);
  if (!there.ok) throw new Error(there.error);
  await expect(there.value.ask('fence', null)).rejects.toThrow('the terminator is gone');
  await there.value.gone;
  await expect(there.value.ask('fence', null)).rejects.toThrow('the terminator is gone');
});
