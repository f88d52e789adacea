import { z } from 'zod';

/** In `state_dir`, where the status is told. */
export const socketName = 'agent.sock';

/** People write marks in hexadecimal. */
export const Mark = z.union([
  z.int().min(0).max(0xffff_ffff),
  z
    .string()
    .regex(/^0x[0-9a-fA-F]{1,8}$/)
    .transform(Number),
]);

export const seconds = (least: number, most: number) => z.number().min(least).max(most);

/** A flow log on disk: how long, and how much. `description`: of what, and where. */
export const flowLogSetting = (description: string) =>
  z
    .strictObject({
      retention_s: z.int().min(0).max(315_360_000).default(604_800).meta({
        description: 'How long a flow is told after it ended, also over a restart; 0: nothing is written to disk',
      }),
      bytes_max: z.int().min(1_048_576).max(68_719_476_736).default(268_435_456).meta({
        description: 'The oldest flows give way to the latest; some 80 bytes each',
      }),
    })
    .prefault({})
    .meta({ description });
