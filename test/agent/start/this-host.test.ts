import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { bootOf, speakerOf, thisHost } from '../../../src/agent/start/this-host.ts';

const script = `
  import { thisHost } from '${new URL('../../../src/agent/start/this-host.ts', import.meta.url).href}';
  console.log(thisHost());
`;

it('another process of the same network namespace is on the same host', () => {
  const told = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect(told.trim()).toBe(thisHost());
});

it('a host is named by its boot and by its network namespace', () => {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  expect(thisHost()).toMatch(new RegExp(`^${boot} net:\\S+$`));
  expect(bootOf(thisHost())).toBe(boot);
});

it('the server is told a number that is another for another boot, and for another network namespace', () => {
  const hosts = ['boot net:1', 'boot net:2', 'another net:1'].map(speakerOf);
  expect(new Set(hosts).size).toBe(3);
  expect(speakerOf('boot net:1')).toBe(hosts[0]);
  for (const speaker of hosts)
    expect(speaker).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
});
