import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checks } from '../../src/doctor/checks.ts';
import { isClockSynchronised } from '../../src/sys/clock.ts';
import { AgentLab, fishOfEachKind } from './support/agent-lab.ts';
import { cases } from './support/doctor-cases.ts';
import { DoctorLab, type Report } from './support/doctor-lab.ts';

let lab: AgentLab;
let doctor: DoctorLab;
const settings = { uplinks: ['h0'], client_interfaces: ['hc'], fish: fishOfEachKind };

beforeAll(async () => {
  lab = await AgentLab.open('doctor');
  await lab.setUp({ settings });
  doctor = await DoctorLab.open(lab, {
    ...settings,
    machine: 'edge',
    server: lab.serverUrl,
    token_file: `${lab.folder}/token`,
    state_dir: `${lab.folder}/state`,
  });
});
afterAll(async () => {
  await doctor.close();
  await lab.close();
});

const only = (report: Report, id: string) => {
  const found = report.checks.find((check) => check.id === id);
  if (!found || report.checks.length !== 1) throw new Error(`not asked for ${id} alone`);
  expect(found.unseen).toBeNull();
  return found;
};
const texts = (report: Report, id: string) => only(report, id).findings.map(({ what }) => what);

/** What no namespace can be broken in, and where it is seen instead. */
const elsewhere = {
  'sock-destroy': 'an option of the kernel itself',
  'clock-unsynchronised': 'a state of the kernel itself',
};
/** Seen below, by the command, under something that changes what it may do; or with an agent at work. */
const below = [
  'kernel-version',
  'steering',
  'capabilities',
  'descriptor-limit',
  'sleeps',
  'binding',
  'no-slices',
  'transparent-sockets',
];

it('every check is tried', () => {
  const tried = new Set([...cases.map(({ id }) => id), ...Object.keys(elsewhere), ...below]);
  expect(checks.map(({ id }) => id).filter((id) => !tried.has(id))).toEqual([]);
});

describe('a host without an agent', () => {
  it.each(cases.map((each) => [`${each.id}: ${each.how}`, each] as const))('%s', async (_name, each) => {
    const more = { ...(each.settings && { settings: each.settings }), ...(each.slices && { slices: each.slices }) };
    try {
      await each.break(doctor);
      const broken = only(await doctor.examine([each.id], more), each.id);
      expect(broken.findings.map(({ what }) => what).join('\n')).toMatch(each.says);
      expect(broken.severity).toBe(each.severity);
      expect(broken.findings.some(({ fix }) => fix !== null)).toBe(each.fixes === true);
      if (each.fixes) {
        const mended = await doctor.examine([each.id], { ...more, fix: true });
        expect(mended.mended).toEqual(mended.mended.map(({ command }) => ({ command, problem: null })));
        expect(mended.mended.length).toBeGreaterThan(0);
        expect(texts(mended, each.id).filter((what) => each.says.test(what))).toEqual([]);
      }
    } finally {
      await each.undo?.(doctor);
    }
    const after = only(await doctor.examine([each.id], each.undo ? more : { ...more, settings: {} }), each.id);
    if (each.after === 'info') expect(after.severity).toBe('info');
    else expect(after.findings).toEqual([]);
  });

  it('mends nothing without being told to, and says what it would do', async () => {
    doctor.shell('sysctl -qw net.ipv4.tcp_timestamps=0');
    const report = await doctor.examine(['tcp-timestamps']);
    expect(only(report, 'tcp-timestamps').findings.map(({ fix }) => fix)).toEqual([
      'sysctl -w net.ipv4.tcp_timestamps="1"',
    ]);
    expect(doctor.shell('sysctl -n net.ipv4.tcp_timestamps')).toBe('0');
    doctor.shell('sysctl -qw net.ipv4.tcp_timestamps=1');
  });
});

describe('fishery doctor', () => {
  const config = () => `${lab.folder}/fishery.json`;

  it.each([
    { id: 'kernel-version', wrapper: ['setarch', '--uname-2.6'], says: /this is Linux 2\.6/, status: 12 },
    { id: 'capabilities', wrapper: ['setpriv', '--bounding-set=-net_raw'], says: /lacks CAP_NET_RAW/, status: 12 },
    { id: 'steering', wrapper: ['setpriv', '--bounding-set=-bpf,-sys_admin'], says: /CAP_BPF/, status: 0 },
    { id: 'descriptor-limit', wrapper: ['prlimit', '--nofile=1000:1000'], says: /may have 1000 desc/, status: 10 },
    { id: 'sleeps', wrapper: ['unshare', '--time', '--boottime', '3600', '--fork'], says: /slept 36\d\d s/, status: 0 },
  ])('$id: sees it under $wrapper, and says so by its exit code', ({ id, wrapper, says, status }) => {
    const ran = doctor.command(wrapper, ['--config', config(), '--only', id]);
    expect(texts(ran.report, id).join('\n')).toMatch(says);
    expect(ran.status).toBe(status);
    const without = doctor.command([], ['--config', config(), '--only', id, '--slices', '198.51.100.10:8192-10239']);
    expect(without).toMatchObject({ status: 0, report: { checks: [{ findings: [] }] } });
  });

  it('transparent-sockets: sees that nothing may have the address of another', () => {
    const path = `${lab.folder}/terminate.json`;
    const { agent } = JSON.parse(readFileSync(config(), 'utf8')) as { agent: object };
    const terminate = { claims: [{ protocol: 'tcp', mode: 'shared', ports: 128 }] };
    writeFileSync(path, JSON.stringify({ agent: { ...agent, terminate } }));
    const args = ['--config', path, '--only', 'transparent-sockets'];
    const ran = doctor.command(['setpriv', '--bounding-set=-net_raw,-net_admin'], args);
    expect(texts(ran.report, 'transparent-sockets')).toEqual(['IP_TRANSPARENT: EPERM']);
    expect(texts(doctor.command([], args).report, 'transparent-sockets')).toEqual([]);
  });

  it('agrees with the kernel about its clock', () => {
    const ran = doctor.command([], ['--only', 'clock-unsynchronised']);
    expect(texts(ran.report, 'clock-unsynchronised')).toHaveLength(isClockSynchronised() ? 0 : 1);
  });

  it('knows that sockets can be destroyed where the kernel says so', () => {
    const config = spawnSync('zcat', ['/proc/config.gz'], { encoding: 'utf8' }).stdout;
    const ran = doctor.command([], ['--only', 'sock-destroy']);
    expect(texts(ran.report, 'sock-destroy')).toHaveLength(/^CONFIG_INET_DIAG_DESTROY=y$/m.test(config) ? 0 : 1);
  });

  it('says when it does not know what the host holds', () => {
    const ran = doctor.command([], ['--only', 'no-slices', '--server', 'http://127.0.0.1:9']);
    expect(texts(ran.report, 'no-slices')).toEqual(['neither server nor agent told of slices']);
    const told = ['--server', 'http://127.0.0.1:9', '--slices', '[2001:db8:a::1]:8192-10239'];
    expect(texts(doctor.command([], ['--only', 'no-slices', ...told]).report, 'no-slices')).toEqual([]);
  });
});

describe('a host with an agent', () => {
  it('finds nothing that is wrong, and binders that do not fit their block', async () => {
    await doctor.ask({ op: 'close-all' });
    doctor.shell('umount /run/fishery 2>/dev/null || true');
    const { client } = lab;
    const agent = lab.startAgent(`${lab.folder}/fishery.json`);
    await agent.ready();
    const session = await client.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
    const { leases } = await client.leases.grant({
      session: session.id,
      claims: [{ protocol: 'tcp', mode: 'shared', binding: 'late', ports: 128 }],
    });
    const port = leases[0]?.ports.first ?? 0;
    // What is a matter of this machine, and not of its namespace; and nobody started a keeper.
    const others = new Set(['flush-ruleset', 'clock-unsynchronised', 'keeper']);
    const ids = checks.map(({ id }) => id).filter((id) => !others.has(id));
    const healthy = await doctor.examine(ids, { slices: [] });
    const bad = healthy.checks.filter(({ severity }) => severity !== 'ok' && severity !== 'info');
    expect(bad).toEqual([]);
    expect(healthy.checks.filter(({ unseen }) => unseen !== null)).toEqual([]);
    expect(healthy.checks.find(({ id }) => id === 'no-slices')?.findings).toEqual([]);

    await doctor.ask({ op: 'bind', address: '198.51.100.10', port, protocol: 'tcp', listen: true });
    const mixed = await doctor.examine(['binding', 'strangers'], { slices: [] });
    expect(mixed.checks.find(({ id }) => id === 'binding')).toMatchObject({ severity: 'error' });
    // The block is the holder's, who is another user.
    expect(mixed.checks.find(({ id }) => id === 'strangers')?.findings.map(({ what }) => what)).toEqual([
      expect.stringMatching(/ of user 0: /),
    ]);
    await doctor.ask({ op: 'close-all' });
    expect(await doctor.examine(['binding'], { slices: [] })).toMatchObject({ worst: 'ok' });

    await agent.end('SIGKILL');
    expect(await doctor.examine(['agent'])).toMatchObject({ worst: 'error' });
  });
});
