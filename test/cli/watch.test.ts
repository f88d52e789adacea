import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LogEntry } from '../../src/wire/agent.ts';
import { fakeTerminal } from '../support/fake-terminal.ts';
import { RealServer } from '../support/real-server.ts';
import { runFishery } from '../support/run-fishery.ts';
import { hangUp, inTurn, json, problem, ScriptedServer, stream, type Answer } from '../support/scripted-server.ts';

let server: RealServer;
let folder: string;
beforeAll(async () => {
  server = await RealServer.start();
  folder = mkdtempSync(join(tmpdir(), 'fishery-watch-'));
  for (const id of ['m1', 'm2']) await server.client.machines.create({ id, enforcement: 'none' });
  await server.client.machines.putHolder('m1', 'web', { kind: 'proxy', uid: 1_000 });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const watch = (line: string, url = server.url, terminal = fakeTerminal()) =>
  runFishery(['watch', ...line.split(' ')], { env: { FISHERY_SERVER: url, FISHERY_TOKEN: server.secret }, terminal });
const entriesOf = (out: string) =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => LogEntry.parse(JSON.parse(line)));

it('fishery watch names the kinds there are to who asks for another', async () => {
  const { code, out, err } = await watch('--kind bogus --until-now');
  expect([code, out]).toEqual([2, '']);
  expect(err).toMatch(/--kind.*bogus.*lease.*revocation/s);
});

describe('fishery watch', () => {
  it('prints the log so far, a line each, and ends when asked to', async () => {
    const { code, out, err } = await watch('--until-now');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const lines = out.trimEnd().split('\n');
    expect(
      lines.map((line) =>
        line
          .replace(/\d{4}-\S+Z/, 'AT')
          .trim()
          .replaceAll(/ +/g, ' '),
      ),
    ).toEqual([
      '1 AT token token-1 operator role=operator',
      '2 AT machine m1 active',
      '3 AT machine m2 active',
      '4 AT holder web m1 kind=proxy uid=1000',
    ]);
  });

  it('prints only what is asked for', async () => {
    expect(entriesOf((await watch('--until-now --json --kind holder')).out)).toMatchObject([{ revision: 4 }]);
    expect(entriesOf((await watch('--until-now --json --after 2')).out)).toMatchObject([
      { revision: 3 },
      { revision: 4 },
    ]);
    const ofMachine = entriesOf((await watch('--until-now --json --machine m2')).out);
    expect(ofMachine.map(({ kind }) => kind)).toContain('machine');
    expect(ofMachine.map(({ revision }) => revision)).not.toContain(2);
  });

  it('goes on with what comes, until it is interrupted, and says where it was', async () => {
    const terminal = fakeTerminal();
    const watching = watch('--json', server.url, terminal);
    await expect.poll(() => terminal.signals.listenerCount('SIGINT')).toBe(1);
    // Only what comes from now on is printed: give it the time to learn what now is.
    const { revision } = await server.client.server.readiness();
    await new Promise((done) => setTimeout(done, 500));
    await server.client.machines.create({ id: 'late', enforcement: 'none' });
    await new Promise((done) => setTimeout(done, 500));
    terminal.signals.emit('SIGINT');
    const { code, out, err } = await watching;
    expect(code).toBe(0);
    expect(entriesOf(out)).toMatchObject([{ kind: 'machine', revision: revision + 1 }]);
    expect(err).toBe(`fishery watch: ended at revision ${revision + 1}; go on with --after ${revision + 1}\n`);
    expect(terminal.signals.listenerCount('SIGINT')).toBe(0);
  });

  it('keeps its position in a file, and begins after it', async () => {
    const file = join(folder, 'position');
    const first = entriesOf((await watch(`--json --until-now --position-file ${file}`)).out);
    expect(readFileSync(file, 'utf8')).toBe(`${first.at(-1)?.revision}\n`);
    expect((await watch(`--json --until-now --position-file ${file}`)).out).toBe('');
    await server.client.machines.create({ id: 'later', enforcement: 'none' });
    expect(entriesOf((await watch(`--json --until-now --position-file ${file}`)).out)).toMatchObject([
      { kind: 'machine' },
    ]);
    writeFileSync(file, 'precious');
    expect(await watch(`--until-now --position-file ${file}`)).toEqual({
      code: 2,
      out: '',
      err: `fishery watch: ${file}: holds no revision, so it is no position of this command\n`,
    });
    expect(readFileSync(file, 'utf8')).toBe('precious');
  });

  it('outlives a server that is away, and prints nothing twice', async () => {
    const { events } = await server.client.events({ limit: 4 });
    const pieces = events.map((entry) => ({ event: 'change', id: entry.revision, data: entry }));
    const breaking: Answer = (request, response) => {
      stream(...pieces.slice(0, 2))(request, response);
      setTimeout(() => response.destroy(), 50);
    };
    const streams = inTurn(breaking, hangUp, problem(503, 'shutting_down'), stream(...pieces.slice(1)));
    await using played = await ScriptedServer.start((request, response) =>
      (request.path === '/readyz' ? json({ status: 'ready', reason: null, revision: 4 }) : streams)(request, response),
    );
    const file = join(folder, 'away');
    const { code, out, err } = await watch(`--json --until-now --kind machine --position-file ${file}`, played.url);
    expect(code).toBe(0);
    expect(entriesOf(out)).toEqual(events);
    expect(err).toMatch(
      /^[^\n]*after revision 2: [^\n]*trying again until it answers\n[^\n]*going on after revision 2\n$/,
    );
    const opened = played.seen.filter(({ path }) => path === '/v1/events/watch');
    expect(opened.map(({ query }) => query)).toEqual(['0', '2', '2', '2'].map((after) => ({ after, kind: 'machine' })));
    expect(readFileSync(file, 'utf8')).toBe('4\n');
  });

  it('ends with what the server says when there is no going on', async () => {
    const lost = inTurn(stream({ event: 'compacted', data: { oldest_revision: 9 } }));
    await using played = await ScriptedServer.start((request, response) =>
      (request.path === '/readyz'
        ? json({ status: 'ready', reason: null, revision: 12 })
        : request.path === '/v1/events/watch'
          ? lost
          : problem(410, 'compacted'))(request, response),
    );
    expect(await watch('--after 3', played.url)).toMatchObject({
      ...{ code: 4, out: '' },
      err: expect.stringContaining('the detail of compacted (compacted') as string,
    });
  });

  it('says what is no longer in the log, or not yet', async () => {
    expect(await watch('--after 999999')).toMatchObject({
      code: 4,
      err: expect.stringContaining('(revision_unknown, ') as string,
    });
  });
});
