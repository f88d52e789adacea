import { counterWords } from '../rules/counter-words.ts';
import { counterNames, tableName } from '../host/ruleset.ts';
import { traceTableName } from './kernel-table.ts';
import { parseTraceLine, type NftTraceLine } from './nft-trace.ts';

/** What happened to a packet, and where. `at`: microseconds since 1970. `verdict`: a counter's name where one tells why. */
export type TraceStep = Readonly<{ at: number; by: 'fish' | 'kernel'; verdict: string; text: string }>;

const own = `inet ${tableName}`;
const tracing = `inet ${traceTableName}`;
const done: Readonly<Record<string, string>> = { drop: 'dropped', accept: 'accepted', queue: 'queued to a program' };

type Packet = { words: string; base: string };

/** Makes steps of the lines of `nft monitor trace`, of so many packets at most. */
export class KernelSteps {
  readonly #packets = new Map<string, Packet>();
  readonly #packets_max: number;
  readonly #found: TraceStep[] = [];

  constructor(packets_max: number) {
    this.#packets_max = packets_max;
  }

  get found(): readonly TraceStep[] {
    return this.#found;
  }

  get isFull(): boolean {
    return this.#packets.size >= this.#packets_max;
  }

  /** `at`: when the line was heard. */
  hear(text: string, at: number): void {
    const line = parseTraceLine(text);
    if (!line) return;
    const packet = this.#packetOf(line, at);
    if (!packet || line.table === tracing) return;
    if (line.kind === 'packet') {
      // As it is now: others may have rewritten it meanwhile. That line names the chain that a hook has called.
      packet.words = wordsOf(line);
      packet.base = line.chain;
      return;
    }
    const told = line.table === own ? ownVerdict(line, packet.base) : othersVerdict(line);
    if (told) this.#found.push({ at, by: 'kernel', verdict: told.verdict, text: `${packet.words}: ${told.text}` });
  }

  /** undefined: traced by somebody else's rule, or one too many. */
  #packetOf(line: NftTraceLine, at: number): Packet | undefined {
    const known = this.#packets.get(line.id);
    if (known || line.kind !== 'packet' || line.table !== tracing || this.isFull) return known;
    const begun = { words: wordsOf(line), base: line.chain };
    this.#packets.set(line.id, begun);
    const where =
      line.iif === null
        ? `sent by this host${line.oif === null ? '' : ` toward ${line.oif}`}`
        : `arrived by ${line.iif}`;
    this.#found.push({ at, by: 'kernel', verdict: 'seen', text: `${begun.words}: ${where}` });
    return begun;
  }
}

const wordsOf = ({ packet }: Extract<NftTraceLine, { kind: 'packet' }>): string =>
  packet.bytes === null ? packet.text : `${packet.text}, ${packet.bytes} bytes`;

type Told = Readonly<{ verdict: string; text: string }>;
type Judged = Exclude<NftTraceLine, { kind: 'packet' }>;

/** Of the agent's table: by the counter that says why; else the end of a chain that the kernel has called. */
function ownVerdict(line: Judged, base: string): Told | undefined {
  const named = line.kind === 'rule' ? /counter name "?(\w+)"?/.exec(line.rule)?.[1] : undefined;
  const counter = counterNames.find((name) => name === named);
  if (counter) {
    const { does, why } = counterWords[counter];
    return { verdict: counter, text: `${base}: ${does}, ${counter}: ${why}` };
  }
  if (line.kind === 'policy')
    return base === 'guard' ? { verdict: line.verdict, text: `${base}: nothing against it` } : undefined;
  // What is steered was told by its counter, and what comes from fish is not steered.
  const did = line.chain === 'to_fish' || line.chain === 'steer' ? undefined : done[line.verdict];
  return did === undefined ? undefined : { verdict: line.verdict, text: `${base}: ${did} in ${line.chain}` };
}

/** Where a rule only leads on, there is nothing to tell. */
function othersVerdict(line: Judged): Told | undefined {
  const did = done[line.verdict];
  if (did === undefined) return undefined;
  const how = line.kind === 'policy' ? 'by its policy' : `by the rule: ${line.rule}`;
  return { verdict: line.verdict, text: `${line.table} ${line.chain}: ${did} ${how}` };
}

/** By time; what was at the same instant stays in its order, fish's first. */
export const mergeSteps = (fish: readonly TraceStep[], kernel: readonly TraceStep[]): readonly TraceStep[] =>
  [...fish, ...kernel].sort((a, b) => a.at - b.at);
