import { describe, expect, it } from 'vitest';
import { placeholderBudget } from '../../../src/agent/start/preflight.ts';
import { spareOfHost } from '../../../src/agent/linux/spare.ts';
import { containing } from '../../support/matchers.ts';

const plenty = { memory_bytes: 64 * 2 ** 30, files: 10_000_000 };
const host = (over: Partial<Parameters<typeof placeholderBudget>[0]> = {}) => ({
  descriptors_max: 20_000,
  spare: plenty,
  held: 0,
  ...over,
});
const none = { exclusivePorts: 0, flowPlaceholders: 0 };

describe('the budget of placeholders', () => {
  it('is not bounded by the descriptors of one process: there are several keepers', () => {
    expect(placeholderBudget(host(), { exclusivePorts: 100_000, flowPlaceholders: undefined })).toMatchObject({
      value: { flows_max: 9_841, bound_max: 64 * (20_000 - 317) - 9_841 - 256 },
    });
  });

  it('leaves flows what they need by default, and the agent what it needs itself', () => {
    expect(
      placeholderBudget(host({ descriptors_max: 1_048_576 }), { exclusivePorts: 0, flowPlaceholders: undefined }),
    ).toMatchObject({ value: { flows_max: 16_384 } });
    expect(placeholderBudget(host({ descriptors_max: Infinity }), none)).toMatchObject({ ok: true });
    // More than one keeper takes go to several.
    expect(placeholderBudget(host(), { exclusivePorts: 64, flowPlaceholders: 100_000 })).toMatchObject({ ok: true });
    expect(placeholderBudget(host(), { exclusivePorts: 0, flowPlaceholders: 64 * (20_000 - 317) })).toMatchObject({
      ok: false,
      error: containing('20000 descriptors each: raise LimitNOFILE, or set fewer placeholders_max'),
    });
    expect(placeholderBudget(host({ descriptors_max: 1_023 }), none)).toMatchObject({
      ok: false,
      error: containing('1024 descriptors are needed, and 1023 are allowed'),
    });
  });

  it('counts what a keeper may open, where that is known, and not what the agent may', () => {
    const wanted = { exclusivePorts: 0, flowPlaceholders: undefined };
    expect(placeholderBudget(host({ descriptors_max: 2_000, keeper_descriptors_max: 524_288 }), wanted)).toMatchObject({
      value: { flows_max: 16_384 },
    });
    expect(placeholderBudget(host({ keeper_descriptors_max: 1_024 }), none)).toMatchObject({
      value: { bound_max: 64 * 707 - 256, remedy: containing('may open 1024 descriptors each') },
    });
  });

  it.each([
    ['memory', { memory_bytes: 4_608 * 4_000, files: 1_000_000 }, 3_000, '4608 bytes of the kernel'],
    ['open files', { ...plenty, files: 3_000 }, 3_000, 'raise fs.file-max'],
  ])('is bounded by %s, and says so', (_what, spare, bound_max, remedy) => {
    expect(placeholderBudget(host({ spare }), none)).toMatchObject({
      value: { bound_max, remedy: containing(remedy) },
    });
    expect(placeholderBudget(host({ spare }), { exclusivePorts: 3_001, flowPlaceholders: 0 })).toMatchObject({
      ok: false,
      error: containing(
        `fish claims 3001 ports exclusively, and this host can hold 3000 placeholders beside 0 for flows`,
      ),
    });
    // What a former agent left is paid for already.
    expect(placeholderBudget(host({ spare, held: 1 }), { exclusivePorts: 3_001, flowPlaceholders: 0 })).toMatchObject({
      ok: true,
    });
  });

  it('is bounded by the descriptors of all keepers where those are few', () => {
    expect(placeholderBudget(host({ descriptors_max: 1_024 }), none)).toMatchObject({
      value: { bound_max: 64 * 707 - 256, remedy: containing('raise LimitNOFILE') },
    });
  });
});

it('what this host has to spare is known', () => {
  const { memory_bytes, files } = spareOfHost();
  expect(memory_bytes).toBeGreaterThan(1_000_000);
  expect(files).toBeGreaterThan(0);
});
