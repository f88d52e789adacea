/**
 * Control groups of the unified hierarchy (cgroup v2), named by their path below its mount, without a leading slash:
 * `system.slice/haproxy.service`. Every process is in exactly one of them, and so in all above it.
 */

/** Levels below the root; orchestrators use four or five. The guard has one look-up for each level that occurs. */
export const cgroup_depth_max = 16;
export const cgroup_chars_max = 512;

/** Names without space, control and foreign characters, as service managers write them; never `.` or `..`. */
export const cgroupPattern = /^(?!\.{1,2}(?:\/|$))[!-.0-~]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[!-.0-~]{1,255}){0,15}$/;

/** 1 for a child of the root. */
export const cgroupDepth = (path: string): number => path.split('/').length;

/** Whether a process can be in both: they are the same, or one is above the other. */
export const cgroupsOverlap = (a: string, b: string): boolean =>
  a === b || a.startsWith(`${b}/`) || b.startsWith(`${a}/`);
