import { SysError } from './errno.ts';
import { libc } from './libc.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const SEEK_END = 2;

/** Where a mapping is: two numbers, which may be handed to another thread. It lasts until `unmap`, or the process's end. */
export type Mapping = Readonly<{ address: number; bytes: number }>;

/**
 * Memory that lives as long as somebody has a descriptor of it, or a mapping: all zeros, and of this size for ever, so that
 * nobody who has it mapped can be hit by SIGBUS. Throws SysError (ENOMEM, EMFILE).
 */
export function createSharedMemory(name: string, bytes: number): number {
  const c = libc();
  const fd = c.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new SysError('memfd_create', c.errno(), name);
  const failed =
    c.ftruncate(fd, bytes) < 0
      ? 'ftruncate'
      : c.fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) < 0
        ? 'fcntl'
        : undefined;
  if (failed === undefined) return fd;
  const errno = c.errno();
  c.close(fd);
  throw new SysError(failed, errno, `${name} of ${bytes} bytes`);
}

/** Maps all of a file, for reading and writing, shared with everybody who has it mapped. Throws SysError. */
export function mapShared(fd: number): Mapping {
  const c = libc();
  const bytes = c.lseek(fd, 0, SEEK_END);
  if (bytes < 0) throw new SysError('lseek', c.errno(), `descriptor ${fd}`);
  const address = c.mmap(null, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address < 0) throw new SysError('mmap', c.errno(), `${bytes} bytes of descriptor ${fd}`);
  return { address, bytes };
}

/**
 * A mapping as a buffer; typed arrays over it are as fast as any others. Each thread makes its own. It does not keep the
 * mapping: whoever touches it after `unmap` brings the process down.
 */
export const viewOfMapping = ({ address, bytes }: Mapping): ArrayBuffer => libc().viewOf(address, bytes);

/** Throws SysError. */
export function unmap({ address, bytes }: Mapping): void {
  const c = libc();
  if (c.munmap(address, bytes) < 0) throw new SysError('munmap', c.errno(), `${bytes} bytes`);
}
