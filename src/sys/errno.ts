/**
 * Linux's own table (asm-generic, so x86-64 and arm64), by number from 1; `-` is a number that means nothing. Not
 * `os.constants.errno`, which is that of the platform the process runs on and lacks a dozen of these.
 */
const names = `
  EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV
  ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK
  ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT
  EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV
  ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX
  ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT
  ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET
  ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH
  EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY
  EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON`
  .trim()
  .split(/\s+/);

/** `98` and `-98` → `EADDRINUSE`; a number without a name → `E524`, so that a log line never hides it. */
export function errnoName(code: number): string {
  const number = Math.abs(code);
  const name = names[number - 1];
  return name === undefined || name === '-' ? `E${number}` : name;
}

/** A system call that failed where the caller could not have expected it. Expected refusals are returned as `-errno`. */
export class SysError extends Error {
  /** The call, or the ioctl or netlink request, as a person would look it up: `bind`, `TUNSETIFF`, `nft add`. */
  readonly syscall: string;
  /** Positive, as in errno.h. */
  readonly errno: number;
  /** `EADDRINUSE`, as on Node's own errors. */
  readonly code: string;

  /** `errno` in either sign; `detail` says which object, or what the kernel itself said about it. */
  constructor(syscall: string, errno: number, detail = '') {
    const code = errnoName(errno);
    super(`${syscall}: ${code}${detail === '' ? '' : ` (${detail})`}`);
    this.name = 'SysError';
    this.syscall = syscall;
    this.errno = Math.abs(errno);
    this.code = code;
  }
}
