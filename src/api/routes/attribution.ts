import { Attribution, AttributionQuery } from '../../wire/attribution.ts';
import { formatInstant, parseInstant } from '../../wire/instants.ts';
import { answer, ahead_s_max } from '../attribute.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { apiProblem } from '../problems.ts';
import { resource } from '../resource.ts';
import { microseconds } from '../units.ts';

export const attributionRoutes = resource('attribution', (app, context) => {
  app.get(
    '/v1/attribution',
    {
      schema: { querystring: AttributionQuery, response: { 200: Attribution } },
      config: operation({
        id: 'attribute',
        tag: 'attribution',
        summary: 'Find out who had an address and port at an instant',
        description:
          'The machine is always exactly one. The holder is one where the lease was exclusive, or where the flow log of the ' +
          'machine proves it (give `remote_address` and `remote_port`); otherwise the candidates are listed as such. ' +
          'All times are half open: from the instant of the grant until before the instant at which its users were proven gone.',
        answers: { 200: 'The truth, with how far it is known.' },
        errors: ['instant_in_future'],
        examples: { answers: { 200: examples.attribution } },
      }),
    },
    async ({ query }) => {
      const now = context.clock.nowUs();
      const at = query.at === undefined ? now : parseInstant(query.at);
      if (at > now + microseconds(ahead_s_max))
        throw apiProblem('instant_in_future', `${formatInstant(at)} is after now, ${formatInstant(now)}`);
      const { address, protocol, port, remote_address, remote_port } = query;
      const hasRemote = remote_address !== undefined && remote_port !== undefined;
      const remote = hasRemote ? { address: remote_address, port: remote_port } : null;
      return answer(context, { address, protocol, port, at, remote });
    },
  );
});
