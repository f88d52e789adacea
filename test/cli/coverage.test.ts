import { expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { documentedOperations } from '../support/openapi-document.ts';

/** Operations that no verb carries out, and why an operator does not miss one. */
const without: Readonly<Record<string, string>> = {
  watchMachine: 'the stream that agents follow; `fishery watch --machine` shows an operator the same changes',
  reportApplied: "an agent's word on what its kernel holds: nobody else can know",
  keepMachine: "an agent's sign of life: to fake one would unfence a machine",
  reportGranted: 'what a broker tells of its own table: nobody else can know',
  answerRequest: 'what a broker answers when the server forwards a request to it',
  answerFlowQuery: 'what an agent answers when the server asks it',
  getOpenApi: 'a document for programs, which its address serves as well',
};

it('there is a verb for every operation of the API, or a reason why there is none', async () => {
  const carriedOut = new Set<string>();
  for (const entry of commands)
    for (const verb of 'verbs' in entry ? await entry.verbs() : [entry])
      for (const operation of (await verb.load()).operations ?? []) carriedOut.add(operation);
  const documented = documentedOperations().map(({ id }) => id);
  expect(documented.filter((id) => !carriedOut.has(id) && !(id in without))).toEqual([]);
  // Neither list keeps what is no longer so.
  expect([...carriedOut, ...Object.keys(without)].filter((id) => !documented.includes(id))).toEqual([]);
  expect(Object.keys(without).filter((id) => carriedOut.has(id))).toEqual([]);
});
