import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { desired, lease } from '../support/agent-values.ts';
import { snapshot, World } from '../support/agent-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

describe('while the server is away, an agent that knows what a former one was told', () => {
  const before = () => desired({ leases: [lease(11, { state: 'active' })] });

  it('keeps the host as it was, sends no keepalive, opens no guard and reports nothing', async () => {
    world.remembered = before();
    world.start();
    world.agent.serverTrouble('away');
    await expect.poll(() => world.agent.leases.phaseOf('lease-11')).toBe('up');
    expect(world.host.addresses).toContain('198.51.100.10');
    expect([world.host.guardMs, world.guard.answeredMsAgo, world.applied]).toEqual([0, undefined, []]);
    expect([world.agent.appliedRevision, world.agent.health().server_problem]).toEqual([0, 'away']);
  });

  it('mends what somebody changes meanwhile', async () => {
    world.remembered = before();
    world.start();
    await expect.poll(() => world.agent.leases.phaseOf('lease-11')).toBe('up');
    const { observations } = world.host;
    world.agent.lookAtHost();
    await expect.poll(() => world.host.observations).toBeGreaterThan(observations);
  });

  it('goes by the server as soon as that says anything, and tells it what it has', async () => {
    world.remembered = desired({ leases: [lease(11, { state: 'active' }), lease(12, { state: 'active' })] });
    world.start();
    world.agent.serverTrouble('away');
    await expect.poll(() => world.agent.leases.phaseOf('lease-12')).toBe('up');
    world.say(snapshot({ leases: [lease(11)] }));
    await expect.poll(() => world.told()).toContain('lease-11 active');
    await expect.poll(() => world.agent.leases.phaseOf('lease-12')).toBeUndefined();
    await expect.poll(() => world.guard.isOpen).toBe(true);
    expect(world.noted).toEqual(['all lease-11', 'lease-11 is up']);
  });

  it('leaves everything as it is when it is stopped', async () => {
    world.remembered = before();
    world.start();
    await expect.poll(() => world.agent.leases.phaseOf('lease-11')).toBe('up');
    await world.stop();
    expect([world.ended, world.fishLeft, world.host.addresses.has('198.51.100.10' as Address)]).toEqual([
      0,
      [true],
      true,
    ]);
  });

  it('goes by nothing where nothing is remembered', async () => {
    world.start();
    world.agent.serverTrouble('away');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(world.host.observations).toBe(0);
  });
});

describe('an agent that has nothing to go by but the pools, as after a boot', () => {
  it('holds the guard shut, mends it, and goes by the server as soon as that says anything', async () => {
    world.prefixes = ['198.51.100.0/24' as Prefix];
    world.start();
    await expect.poll(() => world.host.table?.text).toContain('pool4 { 198.51.100.0/24 }');
    world.host.table = undefined;
    world.agent.lookAtHost();
    await expect.poll(() => world.host.guard()).toEqual({ stands: true, openForMs: 0 });
    expect(world.host.done.map((step) => step.do)).toEqual(['load-ruleset', 'load-ruleset']);
    world.say(snapshot({ leases: [lease(11)] }));
    await expect.poll(() => world.host.guard().openForMs).toBeGreaterThan(0);
    expect(world.agent.leases.phaseOf('lease-11')).toBe('up');
  });

  it('tells what keeps it from that, and tries again', async () => {
    world.prefixes = ['198.51.100.0/24' as Prefix];
    world.host.failOn = () => 'nft: no';
    world.start();
    await expect.poll(() => world.agent.health().problem).toBe('nft: no');
    world.host.failOn = () => undefined;
    await expect.poll(() => world.host.guard().stands).toBe(true);
    await expect.poll(() => world.agent.health().problem).toBeNull();
  });
});

describe('an agent that starts when the horizon of the one before has passed', () => {
  const fishs = { leases: [lease(1, { holder: 'fish', state: 'active' })] };
  /** The kernel would have left the guard open: the machine has slept. */
  const overdue = () => ({
    openForMs: 60_000,
    foundAt: performance.now(),
    horizon: { at_ms: performance.now() - 1_000, fence_s: 30 },
  });
  beforeEach(async () => {
    await world.stop();
    world = new World(true, overdue());
    world.hasFlows = true;
    world.host.guardOpenMs = 60_000;
  });

  it('is shut before anything else, has fish wait, and goes on with the flows when the server answers', async () => {
    world.start();
    expect([world.host.guardOpenMs, world.guard.isOpen]).toEqual([undefined, false]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(world.fishStarts).toBe(0);
    world.say(snapshot(fishs));
    await expect.poll(() => world.guard.isOpen).toBe(true);
    expect([world.fishStarts, world.fences]).toEqual([1, 0]);
    await expect.poll(() => world.agent.leases.phaseOf('lease-1')).toBe('up');
    expect(world.blocks).toContainEqual(['lease-1']);
  });

  it('ends the flows as soon as it goes by memory, and begins none before the server answers', async () => {
    world.remembered = desired(fishs);
    world.start();
    world.agent.serverTrouble('away');
    await expect.poll(() => [world.guard.isFenced, world.fishStarts]).toEqual([true, 1]);
    await expect.poll(() => world.fences).toBeGreaterThan(0);
    expect(world.blocks.flat()).toEqual([]);
    expect(world.host.guardOpenMs).toBeUndefined();
    world.say(snapshot(fishs));
    await expect.poll(() => world.agent.leases.phaseOf('lease-1')).toBe('up');
    expect([world.guard.isOpen, world.guard.isFenced]).toEqual([true, false]);
  });
});
