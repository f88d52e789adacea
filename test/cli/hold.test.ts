import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { problem, ScriptedServer } from '../support/scripted-server.ts';
import { ScriptedSession } from '../support/scripted-session.ts';

const program = fileURLToPath(new URL('../../src/bin/fishery.ts', import.meta.url));

type Ended = Readonly<{ code: number | null; signal: NodeJS.Signals | null; out: string; err: string }>;

class Run {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  out = '';
  err = '';

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    this.child = spawn(process.execPath, [program, 'hold', ...args], {
      stdio: [...stdio],
      env: { ...process.env, ...env },
    });
    this.child.stdout?.on('data', (data: Buffer) => (this.out += data.toString()));
    this.child.stderr?.on('data', (data: Buffer) => (this.err += data.toString()));
    this.ended = new Promise((done) =>
      this.child.on('close', (code, signal) => done({ code, signal, out: this.out, err: this.err })),
    );
  }

  /** Until the held program has printed this. */
  async said(text: string): Promise<void> {
    await expect.poll(() => this.out, { timeout: 10_000 }).toContain(text);
  }
}

describe('fishery hold', () => {
  let folder: string;
  let tokenFile: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fishery-hold-'));
    tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, 'secret\n');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  async function start(
    control: ScriptedSession,
    flags: readonly string[],
    script: string,
    env: Readonly<Record<string, string>> = {},
  ) {
    const server = await ScriptedServer.start(control.answer);
    const common = ['--server', server.url, '--token-file', tokenFile, '--machine', 'm', '--holder', 'h'];
    return { server, run: new Run([...common, ...flags, '--', process.execPath, '-e', script], env) };
  }

  const sleeper = `process.stdout.write('up ' + process.pid + '\\n'); setInterval(() => {}, 1000);`;

  it('runs the program with its lease in the environment and gives everything back with its exit code', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(
      control,
      ['--ports', '100', '--mode', 'exclusive', '--pool', 'p', '--ttl-s', '9'],
      `for (const [k, v] of Object.entries(process.env)) if (k.startsWith('FISHERY_')) console.log(k + '=' + v); process.exit(7)`,
    );
    await using _ = server;
    const { code, out, err } = await run.ended;
    expect(code).toBe(7);
    expect(out.trim().split('\n').toSorted()).toEqual([
      'FISHERY_ADDRESS=198.51.100.10',
      'FISHERY_LEASE=lease-42',
      'FISHERY_PORTS=9000-9127',
      'FISHERY_PORT_FIRST=9000',
      'FISHERY_PORT_LAST=9127',
      'FISHERY_PROTOCOL=tcp',
      'FISHERY_SESSION=session-40',
    ]);
    expect(err).toContain('lease-42: 198.51.100.10:9000-9127/tcp, exclusive');
    expect(control.ended).toBe(1);
    expect(server.seen.find(({ path }) => path === '/v1/sessions')?.body).toEqual({
      machine: 'm',
      holder: 'h',
      ttl_s: 9,
    });
    expect(server.seen.find(({ path }) => path === '/v1/leases')).toMatchObject({
      query: { wait: 'applied', timeout_s: '10' },
      body: { session: 'session-40', claims: [{ protocol: 'tcp', ports: 100, mode: 'exclusive', pool: 'p' }] },
    });
  });

  it('takes nothing of an outer hold for a setting, and hands nothing of it on', async () => {
    const control = new ScriptedSession();
    const outer = {
      ...{
        FISHERY_SESSION: 'session-7',
        FISHERY_PORTS: '7000-7127',
        FISHERY_PROTOCOL: 'udp',
        FISHERY_LEASE_2: 'lease-9',
      },
      ...{ FISHERY_PORT_LAST_2: '7', LISTEN_FDS: '2', LISTEN_PID: '1', LISTEN_FDNAMES: 'a:b', FISHERY_TTL_S: '8' },
    };
    const { server, run } = await start(
      control,
      [],
      `for (const [k, v] of Object.entries(process.env)) if (/^(FISHERY|LISTEN)_/.test(k)) console.log(k + '=' + v)`,
      outer,
    );
    await using _ = server;
    const { code, out } = await run.ended;
    expect(code).toBe(0);
    expect(out).toContain('FISHERY_PORTS=9000-9127');
    expect(out).toContain('FISHERY_SESSION=session-40');
    expect(out).not.toMatch(/session-7|lease-9|_2=|LISTEN_/);
    expect(server.seen.find(({ path }) => path === '/v1/leases')?.body).toMatchObject({
      claims: [{ protocol: 'tcp' }],
    });
    // What was meant as a setting still is one.
    expect(server.seen.find(({ path }) => path === '/v1/sessions')?.body).toMatchObject({ ttl_s: 8 });
  });

  it('reads its settings from the environment where it is not within a hold', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(control, [], '', { FISHERY_PORTS: '64', FISHERY_PROTOCOL: 'udp' });
    await using _ = server;
    expect((await run.ended).code).toBe(0);
    const { body } = server.seen.find(({ path }) => path === '/v1/leases') ?? {};
    expect(body).toMatchObject({ claims: [{ protocol: 'udp', ports: 64 }] });
  });

  const isAlive = (pid: number): boolean => {
    try {
      // One that nobody has waited for yet is still there, as a zombie.
      return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
    } catch {
      return false;
    }
  };

  describe('that is killed', () => {
    const pidOf = ({ out }: Run): number => Number(/up (\d+)/.exec(out)?.[1]);

    it('takes its program with it, which may finish first', async () => {
      const file = join(folder, 'last-words');
      const { server, run } = await start(
        new ScriptedSession(),
        [],
        `process.on('SIGTERM', () => { require('fs').writeFileSync(${JSON.stringify(file)}, 'bye'); process.exit(0); }); ${sleeper}`,
      );
      await using _ = server;
      await run.said('up');
      run.child.kill('SIGKILL');
      await expect.poll(() => isAlive(pidOf(run)), { timeout: 20_000 }).toBe(false);
      expect(readFileSync(file, 'utf8')).toBe('bye');
    });

    it('takes it by force after its grace', async () => {
      const { server, run } = await start(
        new ScriptedSession(),
        ['--grace-s', '1'],
        `process.on('SIGTERM', () => {}); ${sleeper}`,
      );
      await using _ = server;
      await run.said('up');
      run.child.kill('SIGKILL');
      await expect.poll(() => isAlive(pidOf(run)), { timeout: 20_000 }).toBe(false);
    });

    it('takes with it what the program started, and what that started', async () => {
      const stubborn = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);`;
      const inner = `const { spawn } = require('child_process'); spawn(process.execPath, ['-e', ${JSON.stringify(`console.log('last ' + process.pid); ${stubborn}`)}], { stdio: 'inherit' }); ${stubborn}`;
      const { server, run } = await start(
        new ScriptedSession(),
        ['--grace-s', '2'],
        `require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(inner)}], { stdio: 'inherit' }); ${sleeper}`,
      );
      await using _ = server;
      await run.said('up');
      await run.said('last');
      const last = Number(/last (\d+)/.exec(run.out)?.[1]);
      run.child.kill('SIGKILL');
      try {
        await expect.poll(() => isAlive(pidOf(run)), { timeout: 20_000 }).toBe(false);
        await expect.poll(() => isAlive(last), { timeout: 20_000 }).toBe(false);
      } finally {
        if (isAlive(last)) process.kill(last, 'SIGKILL');
      }
    });

    it.each([
      ['and not somebody else who has its number by now', ', "1"', true],
      ['and nobody else', '', false],
    ])('takes its program with it, %s', async (_name, begin, isLeft) => {
      const other = spawn('sleep', ['600'], { stdio: 'ignore' });
      const watcher = fileURLToPath(new URL('../../src/cli/hold/watcher.ts', import.meta.url));
      const code = `import { Watcher } from ${JSON.stringify(watcher)}; new Watcher(0).over(${other.pid}${begin}); console.log('over'); setInterval(() => {}, 1000);`;
      const holder = spawn(process.execPath, ['--input-type=module', '-e', code], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        await once(holder.stdout, 'data');
        const shell = Number(readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8'));
        expect(shell).toBeGreaterThan(1);
        holder.kill('SIGKILL');
        await expect.poll(() => isAlive(shell), { timeout: 20_000 }).toBe(false);
        await expect.poll(() => isAlive(other.pid ?? 0), { timeout: 20_000 }).toBe(isLeft);
      } finally {
        holder.kill('SIGKILL');
        other.kill('SIGKILL');
      }
    });

    it('leaves it where it is with --on-lost keep', async () => {
      const { server, run } = await start(new ScriptedSession(), ['--on-lost', 'keep', '--grace-s', '0'], sleeper);
      await using _ = server;
      await run.said('up');
      const ended = new Promise((resolve) => run.child.once('exit', resolve));
      run.child.kill('SIGKILL');
      await ended;
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(isAlive(pidOf(run))).toBe(true);
      process.kill(pidOf(run), 'SIGKILL');
    });
  });

  describe('with --bind', () => {
    it('hands the program a bound socket for each port, as a service manager does', async () => {
      const control = new ScriptedSession();
      control.address = '127.0.0.1';
      control.ports = { first: 21_804, last: 21_807 };
      const { server, run } = await start(
        control,
        ['--ports', '4', '--bind'],
        `const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES } = process.env;
         console.log(LISTEN_FDS, LISTEN_PID == process.pid, LISTEN_FDNAMES);
         const one = require('net').createServer().listen({ fd: 5 }, () => {
           console.log(one.address().address, one.address().port);
           const taken = require('net').createServer().on('error', ({ code }) => { console.log(code); process.exit(4); });
           taken.listen(21806, '127.0.0.1');
         });`,
      );
      await using _ = server;
      const { code, out, err } = await run.ended;
      expect(out.trim().split('\n'), err).toEqual([
        '4 true lease-42-21804:lease-42-21805:lease-42-21806:lease-42-21807',
        '127.0.0.1 21806',
        'EADDRINUSE',
      ]);
      expect(code).toBe(4);
    });

    it('starts nothing when a port cannot be bound, says which, and gives everything back', async () => {
      const control = new ScriptedSession();
      control.ports = { first: 21_804, last: 21_807 };
      const { server, run } = await start(control, ['--ports', '4', '--bind'], `console.log('must not run')`);
      await using _ = server;
      const { code, out, err } = await run.ended;
      expect({ code, out }).toEqual({ code: 1, out: '' });
      expect(err).toContain('lease-42: tcp port 21804 of 198.51.100.10 cannot be bound: EADDRNOTAVAIL');
      expect(control.ended).toBe(1);
    });

    it('says that a program does not exist, as ever', async () => {
      const control = new ScriptedSession();
      control.address = '127.0.0.1';
      control.ports = { first: 21_804, last: 21_804 };
      const server = await ScriptedServer.start(control.answer);
      await using _ = server;
      const common = ['--server', server.url, '--token-file', tokenFile, '--machine', 'm', '--holder', 'h', '--bind'];
      expect((await new Run([...common, '--', 'no-such-program']).ended).code).toBe(127);
      expect(control.ended).toBe(1);
    });
  });

  it('passes signals on and gives everything back afterwards', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(
      control,
      [],
      `process.on('SIGUSR1', () => console.log('got USR1')); process.on('SIGTERM', () => { console.log('got TERM'); process.exit(3); });
       console.log('up'); setInterval(() => {}, 1000);`,
    );
    await using _ = server;
    await run.said('up');
    run.child.kill('SIGUSR1');
    await run.said('got USR1');
    run.child.kill('SIGTERM');
    expect(await run.ended).toMatchObject({ code: 3 });
    expect(control.ended).toBe(1);
  });

  it('says by which signal the program ended', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(control, [], `process.kill(process.pid, 'SIGKILL')`);
    await using _ = server;
    expect(await run.ended).toMatchObject({ code: 137 });
    expect(control.ended).toBe(1);
  });

  it('keeps the session alive while the program runs', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(control, ['--ttl-s', '2'], sleeper);
    await using _ = server;
    await expect
      .poll(() => server.seen.filter(({ path }) => path.endsWith('/keepalive')).length, { timeout: 10_000 })
      .toBeGreaterThanOrEqual(4);
    expect(run.child.exitCode).toBeNull();
    run.child.kill('SIGTERM');
    expect(await run.ended).toMatchObject({ code: 143 });
  });

  it('stops the program when the session is lost, and says so', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(control, ['--ttl-s', '2'], sleeper);
    await using _ = server;
    await run.said('up');
    control.keepalive = problem(410, 'session_ended');
    const { code, err } = await run.ended;
    expect(code).toBe(75);
    expect(err).toContain('the session is lost: session-40 of h on m');
    expect(err).toContain('stopping the program (SIGTERM, then SIGKILL after 10 s)');
  });

  it('stops the program when its lease is revoked', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(control, ['--ttl-s', '2'], sleeper);
    await using _ = server;
    await run.said('up');
    control.leaseState = 'ending';
    control.leaseEnding = 'revoked';
    const { code, err } = await run.ended;
    expect(code).toBe(75);
    expect(err).toContain('lease-42 (198.51.100.10:9000-9127/tcp, exclusive) is revoked');
    expect(control.ended).toBe(1);
  });

  it('kills a program that does not stop within its grace', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(
      control,
      ['--ttl-s', '2', '--grace-s', '0.3'],
      `process.on('SIGTERM', () => console.log('no')); ${sleeper}`,
    );
    await using _ = server;
    await run.said('up');
    control.keepalive = problem(410, 'session_ended');
    expect(await run.ended).toMatchObject({ code: 75, out: expect.stringContaining('no') as string });
  });

  it('ends what the program started with it, also what takes no notice of SIGTERM', async () => {
    const control = new ScriptedSession();
    const stubborn = `process.on('SIGTERM', () => {}); console.log('worker ' + process.pid); setInterval(() => {}, 1000)`;
    const { server, run } = await start(
      control,
      ['--ttl-s', '2', '--grace-s', '1'],
      // Itself it obeys, and leaves its workers behind: as servers do whose master is ended the hard way.
      `require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(stubborn)}], { stdio: 'inherit' }); ${sleeper}`,
    );
    await using _ = server;
    await run.said('up');
    await run.said('worker');
    const workers = [...run.out.matchAll(/worker (\d+)/g)].map(([, pid]) => Number(pid));
    control.leaseState = 'ending';
    control.leaseEnding = 'revoked';
    expect((await run.ended).code).toBe(75);
    expect(workers).toHaveLength(1);
    await expect.poll(() => workers.filter(isAlive), { timeout: 20_000 }).toEqual([]);
    expect(control.ended).toBe(1);
  });

  it('lets the program go on with --on-lost keep', async () => {
    const control = new ScriptedSession();
    const { server, run } = await start(
      control,
      ['--ttl-s', '2', '--on-lost', 'keep'],
      `${sleeper} setTimeout(() => process.exit(5), 4000)`,
    );
    await using _ = server;
    await run.said('up');
    control.keepalive = problem(410, 'session_ended');
    const { code, err } = await run.ended;
    expect(code).toBe(5);
    expect(err).toContain('goes on without the right to its ports');
  });

  it('starts nothing when the claim is refused, and ends its session', async () => {
    const control = new ScriptedSession();
    control.grant = problem(409, 'claim_refused', { detail: 'EADDRINUSE: 198.51.100.10:9000 is held by pid 77' });
    const { server, run } = await start(control, [], `console.log('must not run')`);
    await using _ = server;
    const { code, out, err } = await run.ended;
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toContain('claim_refused: EADDRINUSE: 198.51.100.10:9000 is held by pid 77');
    expect(control.ended).toBe(1);
  });

  it('starts nothing when the agent does not make the lease true in time', async () => {
    const control = new ScriptedSession();
    control.leaseState = 'pending';
    const { server, run } = await start(control, ['--apply-timeout-s', '3'], `console.log('must not run')`);
    await using _ = server;
    const { code, out, err } = await run.ended;
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toContain('the agent of m has not made lease-42 (pending) true within 3 s');
    expect(control.ended).toBe(1);
  });

  it('gives everything back when it is interrupted before the program runs', async () => {
    const control = new ScriptedSession();
    control.grant = () => {};
    const { server, run } = await start(control, [], `console.log('must not run')`);
    await using _ = server;
    await expect.poll(() => server.seen.some(({ path }) => path === '/v1/leases'), { timeout: 10_000 }).toBe(true);
    run.child.kill('SIGINT');
    expect(await run.ended).toMatchObject({ code: 130, out: '' });
    expect(control.ended).toBe(1);
  });

  it('gives everything back when the program does not exist', async () => {
    const control = new ScriptedSession();
    const server = await ScriptedServer.start(control.answer);
    await using _ = server;
    const common = ['--server', server.url, '--token-file', tokenFile, '--machine', 'm', '--holder', 'h'];
    const { code, err } = await new Run([...common, '--', 'no-such-program']).ended;
    expect(code).toBe(127);
    expect(err).toContain('no-such-program cannot be started');
    expect(control.ended).toBe(1);
  });

  it.each([
    ['no program', ['--ports', '4'], 'expected the program to run, with its arguments after --'],
    ['an unknown flag', ['--prots', '4', '--', 'true'], 'unknown option'],
    ['a bad claim', ['--claim', 'protocol=sctp', '--', 'true'], '--claim "protocol=sctp"'],
    ['two ways of claiming', ['--claim', 'protocol=tcp', '--ports', '4', '--', 'true'], 'leave out --ports'],
    ['too many ports', ['--ports', '70000', '--', 'true'], '--ports'],
    [
      'a socket for shared ports',
      ['--bind', '--mode', 'shared', '--', 'true'],
      '--bind: a bound socket takes its port',
    ],
    ['a socket for echoes', ['--bind', '--protocol', 'icmp', '--', 'true'], '--bind: icmp has no ports'],
    ['too many sockets', ['--bind', '--ports', '2048', '--', 'true'], '--bind: at most 1024 ports'],
    ['an address that is none', ['--server', 'localhost', '--', 'true'], 'is not the address of a server'],
  ])('exits with 2 and attempts nothing: %s', async (_name, flags, why) => {
    const common = ['--token-file', tokenFile, '--machine', 'm', '--holder', 'h'];
    const { code, err } = await new Run([...common, ...flags]).ended;
    expect(code).toBe(2);
    expect(err).toContain(why);
  });

  it('exits with 2 when the token cannot be read', async () => {
    const { code, err } = await new Run(['--token-file', '/nowhere', '--machine', 'm', '--holder', 'h', '--', 'true'])
      .ended;
    expect(code).toBe(2);
    expect(err).toContain('/nowhere: cannot be read');
  });
});
