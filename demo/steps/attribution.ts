import { formatInstant } from '../../src/wire/instants.ts';
import type { Attribution } from '../../src/wire/attribution.ts';
import { tupleOf, type Flow } from '../flows.ts';
import { addresses } from '../lab.ts';
import { some, type Step } from '../report.ts';
import { holderOfSender, holders, machine, type World } from '../world.ts';

/** "Who had 198.51.100.10:9001/tcp at 14:03:07?", asked for everything that the capture holds, and compared with it. */
export async function attribution(step: Step, world: World): Promise<void> {
  const flows = (await world.capture.flows()).filter(({ source }) => source === '198.51.100.10');
  const asked: { flow: Flow; answer: Attribution }[] = [];
  // A few at a time: each may be passed on to the machine, whose agent has two seconds to look.
  for (let at = 0; at < flows.length; at += at_once_max)
    asked.push(
      ...(await Promise.all(
        flows.slice(at, at + at_once_max).map(async (flow) => ({ flow, answer: await ask(world, flow) })),
      )),
    );

  const wrongMachine = asked.filter(({ answer }) => answer.machine?.id !== machine);
  step.fact(
    'machine',
    'every conversation in the capture is attributed to exactly one machine, the right one',
    flows.length > 0 && wrongMachine.length === 0,
    {
      expected: machine,
      seen: some(wrongMachine.map(({ flow, answer }) => `${tupleOf(flow)}: ${answer.machine?.id ?? 'nobody'}`)),
      evidence: [`${flows.length} conversations asked for`],
    },
  );

  const told = asked.filter(({ flow }) => flow.senders.length === 1);
  const wrongHolder = told.filter(({ flow, answer }) => !isExactly(answer, holderOfSender[flow.senders[0] ?? '']));
  const byBasis = Map.groupBy(told, ({ answer }) => answer.holders[0]?.basis ?? 'none');
  step.fact(
    'holder',
    'and to the holder that really sent it, as its own request says',
    told.length > 0 && wrongHolder.length === 0,
    {
      expected: 'exactly one holder, the sender',
      seen: some(
        wrongHolder.map(
          ({ flow, answer }) =>
            `${tupleOf(flow)} by ${flow.senders.join()}: ${answer.certainty} ${answer.holders.map(({ holder }) => holder).join(', ')}, flow log ${answer.flow_log}`,
        ),
      ),
      evidence: [...byBasis].map(
        ([basis, all]) =>
          `${basis}: ${all.length} conversations of ${[...new Set(all.map(({ flow }) => flow.senders[0]))].join(', ')}`,
      ),
    },
  );

  const clients = told.filter(({ flow, answer }) => flow.senders[0] === 'client' && answer.holders[0]?.client !== null);
  const wrongClient = clients.filter(({ answer }) => !answer.holders[0]?.client?.startsWith(addresses.client));
  step.fact(
    'client',
    'for what fish sent, the client behind it is named too',
    clients.length > 0 && wrongClient.length === 0,
    {
      expected: addresses.client,
      seen: some(wrongClient.map(({ answer }) => String(answer.holders[0]?.client))),
      evidence: [`${clients.length} conversations of ${addresses.client}`],
    },
  );
  await withoutRemote(step, world, told);
}

/** In the middle of what it sent: the ends are the capture's, a little later than the host's own. */
const middleOf = ({ first, lastOut }: Flow): string => formatInstant(Math.floor((first + lastOut) / 2));

const at_once_max = 16;
const tries_max = 3;

/** Asks again where the answer says that the machine could not be reached: it is only slow here, and the answer honest. */
async function ask(world: World, flow: Flow): Promise<Attribution> {
  for (let tries = 1; ; tries++) {
    const answer = await world.client.attribution({
      address: flow.source,
      protocol: flow.protocol,
      port: flow.sourcePort,
      at: middleOf(flow),
      remote_address: flow.destination,
      remote_port: flow.protocol === 'icmp' ? 0 : flow.destinationPort,
    });
    if (answer.flow_log !== 'unreachable' || tries === tries_max) return answer;
  }
}

const isExactly = ({ certainty, holders: found }: Attribution, holder: string | undefined): boolean =>
  certainty === 'exact' && found.length === 1 && found[0]?.holder === holder;

/** Where the truth is not known, it must not be made up. */
async function withoutRemote(
  step: Step,
  world: World,
  told: readonly Readonly<{ flow: Flow; answer: Attribution }>[],
): Promise<void> {
  const shared = told.find(({ answer }) => answer.holders[0]?.mode === 'shared')?.flow;
  if (!shared) throw new Error('no conversation in a shared block was seen');
  const answer = await world.client.attribution({
    address: shared.source,
    protocol: 'tcp',
    port: shared.sourcePort,
    at: middleOf(shared),
  });
  const candidates = answer.holders.map(({ holder }) => holder).toSorted();
  step.equal(
    'candidates',
    'a shared port without its remote is answered with candidates, and says so',
    { certainty: answer.certainty, candidates },
    {
      certainty: 'candidates',
      candidates: [holders.connectProxy, holders.fish],
    },
  );
}
