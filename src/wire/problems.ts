import { z } from 'zod';
import { BrokerPosition } from './broker.ts';

/** RFC 9457. `code` is stable: programs branch on it, never on the text. */
export const Problem = z
  .strictObject({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string(),
    detail: z.string(),
    instance: z.string().optional(),
    request_id: z.string().optional(),
    retry_after_s: z.number().optional(),
    errors: z
      .array(z.strictObject({ path: z.string(), message: z.string() }))
      .optional()
      .meta({
        description: 'Every part of the input that is wrong; or every item that the problem is about, with its state.',
      }),
    broker: BrokerPosition.optional().meta({ description: 'Of `report_gap`: where to go on from.' }),
  })
  .meta({ id: 'Problem' });
export type Problem = z.infer<typeof Problem>;
