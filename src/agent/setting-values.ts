import { z } from 'zod';

/** People write marks in hexadecimal. */
export const Mark = z.union([
  z.int().min(0).max(0xffff_ffff),
  z
    .string()
    .regex(/^0x[0-9a-fA-F]{1,8}$/)
    .transform(Number),
]);

export const seconds = (least: number, most: number) => z.number().min(least).max(most);
