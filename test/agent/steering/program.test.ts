import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { clangVersion, generate, programPath, sourceHash } from '../../../scripts/steer-program.ts';
import { steeringProgram } from '../../../src/agent/steering/program.ts';
import { compiledOf, steerProgram } from '../../../src/agent/steering/steer-program.ts';

const target = { tunIndex: 7, mark: 0x2a, markMask: 0xff };
const constants = (instructions: Uint8Array): readonly number[] => {
  const view = new DataView(instructions.buffer);
  return Array.from({ length: instructions.length / 8 }, (_, index) => view.getUint32(index * 8 + 4, true));
};

describe('the committed program', () => {
  it('is compiled of the source as it is', () => {
    expect(compiledOf.sha256).toBe(sourceHash());
    // Another version of the compiler may choose other instructions for the same source.
    const compiled = clangVersion() === compiledOf.clang ? generate() : readFileSync(programPath, 'utf8');
    expect(readFileSync(programPath, 'utf8')).toBe(compiled);
  });

  it('is one instruction of eight bytes a line', () => {
    expect(steerProgram.every((line) => /^[0-9a-f]{16}$/.test(line))).toBe(true);
    expect(steerProgram.length).toBeLessThan(512);
  });
});

describe('a program for a host', () => {
  it('has its TUN device, mark and mask where the placeholders were', () => {
    const before = constants(new Uint8Array(Buffer.from(steerProgram.join(''), 'hex')));
    const after = constants(steeringProgram(target).instructions);
    const meant = new Map([
      [0x7f15f001, target.tunIndex],
      [0x7f15f002, target.markMask],
      [0x7f15f003, target.mark],
    ]);
    expect(after).toEqual(before.map((constant) => meant.get(constant) ?? constant));
    expect(before).toEqual(expect.arrayContaining([...meant.keys()]));
  });

  it('has a name that says which one it is, and that the kernel takes', () => {
    const { label } = steeringProgram(target);
    expect(label).toMatch(/^fishery[0-9a-f]{8}$/);
    expect(steeringProgram({ ...target }).label).toBe(label);
    for (const other of [{ tunIndex: 8 }, { mark: 0x2b }, { markMask: 0xffff }])
      expect(steeringProgram({ ...target, ...other }).label).not.toBe(label);
  });
});
