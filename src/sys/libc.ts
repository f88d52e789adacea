import { createRequire } from 'node:module';
import { endianness } from 'node:os';

type Bytes = Uint8Array | Int32Array;

/**
 * The C library as this folder uses it. Every function returns a 32-bit number, never a BigInt, and takes buffers by
 * their bytes, so that a call allocates nothing. A failing call answers -1; read `errno()` BEFORE the next call,
 * `close()` included, because that overwrites it.
 */
export type Libc = Readonly<{
  errno(): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, buffer: Bytes, bytes: number): number;
  write(fd: number, buffer: Bytes, bytes: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  flock(fd: number, operation: number): number;
  ioctl(fd: number, request: number, argument: Bytes): number;
  ioctlNumber(fd: number, request: number, argument: number): number;
  poll(fds: Bytes, count: number, timeoutMs: number): number;
  pipe2(pair: Int32Array, flags: number): number;
  /** Neither end is a file: there are no offsets. */
  splice(from: number, fromOffset: null, to: number, toOffset: null, bytes: number, flags: number): number;
  eventfd(initial: number, flags: number): number;
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, pair: Int32Array): number;
  bind(fd: number, address: Bytes, bytes: number): number;
  connect(fd: number, address: Bytes, bytes: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: null, bytes: null, flags: number): number;
  getsockname(fd: number, address: Bytes, bytes: Int32Array): number;
  getpeername(fd: number, address: Bytes, bytes: Int32Array): number;
  setsockopt(fd: number, level: number, option: number, value: Bytes, bytes: number): number;
  getsockopt(fd: number, level: number, option: number, value: Bytes, bytes: Int32Array): number;
  send(fd: number, buffer: Bytes, bytes: number, flags: number): number;
  recv(fd: number, buffer: Bytes, bytes: number, flags: number): number;
  sendmsg(fd: number, header: Bytes, flags: number): number;
  recvmsg(fd: number, header: Bytes, flags: number): number;
  getrlimit(resource: number, limits: Bytes): number;
  setrlimit(resource: number, limits: Bytes): number;
  setns(fd: number, type: number): number;
  adjtimex(timex: Bytes): number;
  ifNameToIndex(name: string): number;
  memfdCreate(name: string, flags: number): number;
  ftruncate(fd: number, bytes: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  /** An address, or -1. */
  mmap(address: null, bytes: number, protection: number, flags: number, fd: number, offset: number): number;
  munmap(address: number, bytes: number): number;
  /** Memory at an address as a buffer, which does not keep it there: nothing may touch it after munmap(). */
  viewOf(address: number, bytes: number): ArrayBuffer;
  /** For bpf(2), which the C library has no function for. */
  syscall(number: number, first: number, second: Bytes, third: number): number;
  /**
   * Where a buffer lies, for structures that hold pointers. Only for views of a `new ArrayBuffer(n)`: a typed array of
   * up to 64 bytes made any other way may lie in V8's heap, which moves.
   */
  addressOf(buffer: Bytes): bigint;
}>;

let loaded: Libc | undefined;

/** The C library, loaded at first use: importing this folder must be harmless where it cannot work. */
export function libc(): Libc {
  return (loaded ??= load());
}

function load(): Libc {
  // Everything here was written for these two, which agree on every constant and structure used (see README.md).
  const supported = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch) && endianness() === 'LE';
  if (!supported)
    throw new Error(`src/sys needs Linux on x86-64 or arm64; this is ${process.platform} on ${process.arch}`);
  let koffi: typeof import('koffi');
  try {
    koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  } catch (cause) {
    throw new Error('src/sys needs the package koffi with its native part for this platform; run npm ci', { cause });
  }
  // null is the running process itself, which has glibc or musl loaded already.
  const library = koffi.load(null);
  return {
    errno: () => koffi.errno(),
    open: library.func('int open(const char *, int)'),
    close: library.func('int close(int)'),
    read: library.func('int read(int, void *, size_t)'),
    write: library.func('int write(int, const void *, size_t)'),
    fcntl: library.func('int fcntl(int, int, int)'),
    flock: library.func('int flock(int, int)'),
    ioctl: library.func('ioctl', 'int', ['int', 'ulong', 'void *']),
    ioctlNumber: library.func('ioctl', 'int', ['int', 'ulong', 'ulong']),
    poll: library.func('int poll(void *, ulong, int)'),
    pipe2: library.func('int pipe2(void *, int)'),
    splice: library.func('int64 splice(int, void *, int, void *, size_t, uint)'),
    eventfd: library.func('int eventfd(uint, int)'),
    socket: library.func('int socket(int, int, int)'),
    socketpair: library.func('int socketpair(int, int, int, void *)'),
    bind: library.func('int bind(int, const void *, uint)'),
    connect: library.func('int connect(int, const void *, uint)'),
    listen: library.func('int listen(int, int)'),
    accept4: library.func('int accept4(int, void *, void *, int)'),
    getsockname: library.func('int getsockname(int, void *, void *)'),
    getpeername: library.func('int getpeername(int, void *, void *)'),
    setsockopt: library.func('int setsockopt(int, int, int, const void *, uint)'),
    getsockopt: library.func('int getsockopt(int, int, int, void *, void *)'),
    send: library.func('int send(int, const void *, size_t, int)'),
    recv: library.func('int recv(int, void *, size_t, int)'),
    sendmsg: library.func('int sendmsg(int, const void *, int)'),
    recvmsg: library.func('int recvmsg(int, void *, int)'),
    getrlimit: library.func('int getrlimit(int, void *)'),
    setrlimit: library.func('int setrlimit(int, const void *)'),
    setns: library.func('int setns(int, int)'),
    adjtimex: library.func('int adjtimex(void *)'),
    ifNameToIndex: library.func('uint if_nametoindex(const char *)'),
    memfdCreate: library.func('int memfd_create(const char *, uint)'),
    ftruncate: library.func('int ftruncate(int, int64)'),
    lseek: library.func('int64 lseek(int, int64, int)'),
    mmap: library.func('mmap', 'int64', ['void *', 'size_t', 'int', 'int', 'int', 'int64']),
    munmap: library.func('munmap', 'int', ['uint64', 'size_t']),
    viewOf: (address, bytes) => koffi.view(BigInt(address), bytes),
    syscall: library.func('syscall', 'int', ['long', 'long', 'void *', 'long']),
    addressOf: (buffer) => koffi.address(buffer),
  };
}
