import { EpochConfirm } from '../../wire/epochs.ts';
import { changeVerb, readVerb } from './verb.ts';

export const verbs = [
  readVerb({
    name: 'get',
    summary: 'See whether the table may lack what was answered before, and why',
    operations: ['getEpoch'],
    args: [],
    read: ({ client, options }) => client.server.epoch(options),
  }),
  changeVerb({
    name: 'confirm',
    summary: 'Let a server go on that is read-only after a restored backup or a failover',
    operations: ['confirmEpoch'],
    args: [],
    flags: EpochConfirm,
    question: ({ flags }) =>
      `Answer for it that nobody uses a port that the table of epoch ${flags.epoch} would give to another?`,
    change: ({ client, flags, options }) => client.server.confirmEpoch(flags, options),
  }),
];
