import { Epoch, EpochConfirm } from '../../wire/epochs.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { presentEpoch } from '../present.ts';
import { principalOf, witnessOf } from '../principal.ts';
import { resource, run } from '../resource.ts';

/** Whether the table has all that was answered, and the word of an operator that it may go on without. */
export const epochRoutes = resource('epoch', (app, context) => {
  app.get(
    '/v1/server/epoch',
    {
      schema: { response: { 200: Epoch } },
      config: operation({
        id: 'getEpoch',
        tag: 'log',
        summary: 'See whether the table may lack what was answered before',
        description:
          'A new epoch begins when a restored backup or a failover was noticed. While it is in doubt the server is ' +
          'read-only: keepalives and reads are answered, nothing is granted, ended or freed.',
        answers: { 200: 'The epoch that the table is in.' },
        errors: [],
        examples: { answers: { 200: examples.epochInDoubt } },
      }),
    },
    async () => presentEpoch(await context.reader.epoch()),
  );

  app.post(
    '/v1/server/confirm-epoch',
    {
      schema: { body: EpochConfirm, response: { 200: Epoch } },
      config: operation({
        id: 'confirmEpoch',
        tag: 'log',
        summary: 'Let the server go on after a restored backup',
        description:
          'Ends the doubt: sessions have their full time from now, and machines their full fence. What was answered after ' +
          'the backup is lost: leases of it are dropped by their agents. Nothing is granted before ' +
          'each of them has, or its guard has shut for want of an answer. Make sure first that no machine without an agent ' +
          'uses such ports, and that no other server grants from another copy.',
        answers: { 200: 'The epoch, confirmed now or before.' },
        errors: ['epoch_superseded'],
        dryRun: true,
        examples: { body: examples.epochConfirm, answers: { 200: examples.epoch } },
      }),
    },
    async (request) =>
      presentEpoch(
        await run(context, request, {
          kind: 'confirmEpoch',
          number: request.body.epoch,
          by: witnessOf(principalOf(request)),
        }),
      ),
  );
});
