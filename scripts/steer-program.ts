/**
 * What `node scripts/steer-program.ts` does after a change of bpf/steer.bpf.c: compiles it by clang and writes the
 * instructions, each with its assembly beside it, to src/agent/steering/steer-program.ts, which is committed: no machine
 * that runs Fishery needs a compiler. A test compares the two, and compiles again where clang is.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(import.meta.dirname, '..');
export const sourcePath = join(root, 'bpf', 'steer.bpf.c');
export const programPath = join(root, 'src', 'agent', 'steering', 'steer-program.ts');
const flags = ['-O2', '-g0', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror'];
const section = 'steer';

/** Which version of clang is on this machine, `14`; undefined when there is none. */
export function clangVersion(): string | undefined {
  const { stdout, status } = spawnSync('clang', ['--version'], { encoding: 'utf8' });
  return status === 0 ? /version (\d+)/.exec(stdout)?.[1] : undefined;
}

export const sourceHash = (): string => createHash('sha256').update(readFileSync(sourcePath)).digest('hex');

/** The text of the generated file, of the source as it is now. */
export function generate(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fishery-steer-'));
  try {
    const compile = (args: readonly string[], name: string): Buffer => {
      const output = join(folder, name);
      const { status, stderr } = spawnSync('clang', [...flags, ...args, sourcePath, '-o', output], {
        encoding: 'utf8',
      });
      if (status !== 0) throw new Error(`clang ${args.join(' ')}: ${stderr}`);
      return readFileSync(output);
    };
    const instructions = sectionOf(compile(['-c'], 'steer.o'), section);
    return render(instructions, assemblyLines(compile(['-S'], 'steer.s').toString()));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A section of a 64-bit little-endian ELF file, which must have no relocations for it: nobody would carry them out. */
function sectionOf(file: Buffer, name: string): Buffer {
  const headersAt = Number(file.readBigUInt64LE(0x28));
  const count = file.readUInt16LE(0x3c);
  const header = (index: number) => headersAt + index * 64;
  const namesAt = Number(file.readBigUInt64LE(header(file.readUInt16LE(0x3e)) + 24));
  const nameOf = (index: number): string => {
    const at = namesAt + file.readUInt32LE(header(index));
    return file.toString('latin1', at, file.indexOf(0, at));
  };
  const names = Array.from({ length: count }, (_, index) => nameOf(index));
  if (names.includes(`.rel${name}`)) throw new Error('the program has relocations: it uses a map, data or a call');
  const at = header(names.indexOf(name));
  if (!names.includes(name)) throw new Error(`no section ${name}`);
  const offset = Number(file.readBigUInt64LE(at + 24));
  return file.subarray(offset, offset + Number(file.readBigUInt64LE(at + 32)));
}

type Line = Readonly<{ label?: string; code: string }>;

/** Instructions of `clang -S`, with the label that stands before one. */
function assemblyLines(text: string): readonly Line[] {
  const lines: Line[] = [];
  let label: string | undefined;
  for (const line of text.split('\n')) {
    const found = /^(LBB\w+):/.exec(line)?.[1];
    label = found ?? label;
    const code = /^\t(?![.#])([^#]+?)\s*(#.*)?$/.exec(line)?.[1];
    if (code === undefined) continue;
    lines.push(label === undefined ? { code } : { label, code });
    label = undefined;
  }
  return lines;
}

function render(instructions: Buffer, lines: readonly Line[]): string {
  const rows: string[] = [];
  let at = 0;
  const next = () => `  '${instructions.toString('hex', at, (at += 8))}',`;
  for (const { label, code } of lines) {
    if (label !== undefined) rows.push(`  // ${label}`);
    const isWide = instructions[at] === 0x18;
    rows.push(`${next()} // ${code}`);
    if (isWide) rows.push(`${next()} // … the upper half`);
  }
  if (at !== instructions.length) throw new Error(`${at} bytes of assembly for ${instructions.length} of instructions`);
  return `/*
 * Made by scripts/steer-program.ts of bpf/steer.bpf.c; do not edit. One instruction of eight bytes a line (RFC 9669), with
 * what it is in assembly.
 */

/** SHA-256 of the source that this was compiled of, and the version of clang that did it. */
export const compiledOf = {
  sha256: '${sourceHash()}',
  clang: '${clangVersion() ?? ''}',
} as const;

export const steerProgram: readonly string[] = [
${rows.join('\n')}
];
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(programPath, generate());
