import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { commands } from '../../src/cli/commands.ts';
import { configSchema } from '../../src/cli/config-schema.ts';
import { readConfigSection } from '../../src/ops/config-file.ts';
import { resolveSettings } from '../../src/ops/settings.ts';
import { root } from '../support/tree.ts';

const read = (...path: readonly string[]) => readFileSync(join(root, 'packaging', ...path), 'utf8');
const sections = commands.map(({ name }) => name);

describe('examples of the configuration file', () => {
  const examples = readdirSync(join(root, 'packaging/examples'));

  it('are there for server and agent', () => {
    expect(examples).toEqual(['agent.yaml', 'server.yaml']);
  });

  it.each(examples)('%s is what its command takes', async (file) => {
    const text = parse(read('examples', file)) as Record<string, unknown>;
    expect(Object.keys(text)).toEqual([file.replace('.yaml', '')]);
    for (const section of Object.keys(text)) {
      const entry = commands.find(({ name }) => name === section);
      if (!entry || !('load' in entry)) throw new Error(`no command ${section}`);
      const config = readConfigSection(join(root, 'packaging/examples', file), section, sections);
      if (!config.ok) throw new Error(config.problem);
      const settings = resolveSettings((await entry.load()).settings, { file: config.value });
      expect(settings).toMatchObject({ ok: true });
    }
  });

  it('name the schema where it is installed', () => {
    for (const file of examples)
      expect(read('examples', file)).toMatch(
        /^# yaml-language-server: \$schema=\/usr\/lib\/fishery\/packaging\/config\.schema\.json\n/,
      );
  });
});

describe('the schema of the configuration file', () => {
  it('is what the settings say (npm run openapi writes it)', async () => {
    expect(JSON.parse(read('config.schema.json'))).toEqual(JSON.parse(JSON.stringify(await configSchema(commands))));
  });

  it('has the sections that commands read, refuses others, and stands by itself', async () => {
    const schema = (await configSchema(commands)) as {
      properties: Record<string, object>;
      additionalProperties: boolean;
    };
    expect(Object.keys(schema.properties)).toEqual(
      expect.arrayContaining(['server', 'agent', 'keeper', 'hold', 'migrate', 'profile', 'profiles']),
    );
    expect(Object.keys(schema.properties)).not.toContain('doctor');
    expect(schema.additionalProperties).toBe(false);
    expect(schema.properties['agent']).toMatchObject({
      additionalProperties: false,
      properties: { fish: { properties: { claims: { type: 'array' } } } },
    });
    expect(JSON.stringify(schema)).not.toContain('"$ref"');
  });
});

describe('units', () => {
  const unit = (name: string) => read('systemd', name);
  const values = (name: string, key: string) =>
    [...unit(name).matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value);

  it('run commands that there are, with settings that they know', async () => {
    for (const name of readdirSync(join(root, 'packaging/systemd')).filter((each) => each.endsWith('.service'))) {
      const [line = ''] = values(name, 'ExecStart');
      const [program, command = '', ...flags] = line.split(' ');
      expect(program).toBe('/usr/bin/fishery');
      const entry = commands.find((each) => each.name === command);
      if (!entry || !('load' in entry)) throw new Error(`no command ${command}`);
      const { settings } = await entry.load();
      for (const flag of flags.filter((each) => each.startsWith('--') && each !== '--config'))
        expect(Object.keys(settings.shape)).toContain(flag.slice(2).replaceAll('-', '_'));
    }
  });

  it('give the agent what it needs and nothing else, the others nothing', () => {
    expect(values('fishery-agent.service', 'CapabilityBoundingSet')).toEqual([
      'CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_SYS_PTRACE CAP_DAC_READ_SEARCH',
    ]);
    expect(values('fishery-server.service', 'CapabilityBoundingSet')).toEqual(['']);
    expect(values('fishery-keeper@.service', 'CapabilityBoundingSet')).toEqual(['']);
    expect(values('fishery-sleep.service', 'CapabilityBoundingSet')).toEqual(['CAP_NET_ADMIN CAP_DAC_READ_SEARCH']);
    expect(values('fishery-guard.service', 'CapabilityBoundingSet')).toEqual(['CAP_NET_ADMIN']);
    expect(values('fishery-terminator.service', 'CapabilityBoundingSet')).toEqual([
      'CAP_NET_RAW CAP_SETUID CAP_SETGID',
    ]);
  });

  it('load the guard before the network is up, and again with whatever nftables does', () => {
    const guard = (key: string) => values('fishery-guard.service', key);
    expect(guard('Before')).toEqual(['network-pre.target shutdown.target']);
    expect([guard('PartOf'), guard('ReloadPropagatedFrom')]).toEqual([['nftables.service'], ['nftables.service']]);
    expect(guard('ExecReload')).toEqual(guard('ExecStart'));
    expect(values('fishery-agent.service', 'Wants').join(' ')).toContain('fishery-guard.service');
  });

  it('let keeper and terminator outlive the agent', () => {
    const bonds = ['PartOf', 'BindsTo', 'Requires', 'StopWhenUnneeded', 'PropagatesStopTo'];
    for (const name of ['fishery-agent.service', 'fishery-keeper@.service', 'fishery-terminator.service'])
      for (const bond of bonds) expect(values(name, bond)).toEqual([]);
    expect(values('fishery-agent.service', 'KillMode')).toEqual(['process']);
    // The keepers' sockets are in there.
    for (const name of ['fishery-agent.service', 'fishery-keeper@.service', 'fishery-terminator.service'])
      expect(values(name, 'RuntimeDirectoryPreserve')).toEqual(['yes']);
  });
});
