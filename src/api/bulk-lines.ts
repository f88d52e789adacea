import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { bulkColumns, type BulkAnswer } from '../wire/attribution.ts';
import { apiProblem } from './problems.ts';

/** A line of an uploaded list: what stands in it, or why that cannot be read. `ref` is told where it could be. */
export type BulkLine = Readonly<{ line: number }> &
  (Readonly<{ fields: Readonly<Record<string, unknown>> }> | Readonly<{ unreadable: string }>);

/** How lists of questions and of answers are written. Both are lines: one that is bad spoils no other. */
export type BulkFormat = Readonly<{
  /** Throws a problem where the list as a whole makes no sense. */
  read: (text: string) => Iterable<BulkLine>;
  /** In front of all answers. */
  head: string;
  write: (answer: BulkAnswer) => string;
}>;

const line_characters_max = 4_096;

/** The lines that are not empty, without their ends, by their numbers from 1. */
function* linesOf(text: string): Generator<Readonly<{ line: number; text: string }>> {
  let line = 0;
  // A byte order mark is what some spreadsheets begin with.
  for (let from = text.startsWith('\uFEFF') ? 1 : 0; from < text.length;) {
    const end = text.indexOf('\n', from);
    const to = end === -1 ? text.length : end;
    line++;
    const content = text.slice(from, text[to - 1] === '\r' ? to - 1 : to);
    if (content.trim() !== '') yield { line, text: content };
    from = to + 1;
  }
}

const tooLong = (text: string): string | undefined =>
  text.length > line_characters_max
    ? `it has ${text.length} characters, more than the ${line_characters_max} that are taken`
    : undefined;

export const ndjson: BulkFormat = {
  *read(text) {
    for (const { line, text: content } of linesOf(text)) {
      const unreadable = tooLong(content);
      yield { line, ...(unreadable === undefined ? objectIn(content) : { unreadable }) };
    }
  },
  head: '',
  write: (answer) => `${JSON.stringify(answer)}\n`,
};

function objectIn(text: string): Readonly<{ fields: Record<string, unknown> } | { unreadable: string }> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return { fields: value as Record<string, unknown> };
  } catch {
    // Said below: where in the line it stops being JSON helps nobody more than the line itself.
  }
  return { unreadable: 'it is not an object in JSON' };
}

const answerColumns = [
  ...['line', 'ref', 'address', 'protocol', 'port', 'at', 'machine', 'slice', 'generation', 'certainty'],
  ...['holders', 'leases', 'basis', 'client', 'flow_log', 'complete_through', 'history_since', 'error', 'detail'],
] as const;
const required = ['address', 'protocol', 'port', 'at'] as const;

export const csv: BulkFormat = {
  read(text) {
    const lines = linesOf(text);
    const first = lines.next();
    const head = first.done === true ? [] : (cellsOf(first.value.text) ?? []).map((name) => name.trim());
    const strange = head.find((name) => !bulkColumns.some((column) => column === name));
    const missing = required.find((column) => !head.includes(column));
    const what = `the first line must name the columns, of ${bulkColumns.join(', ')}`;
    if (strange !== undefined) throw apiProblem('malformed_request', `${what}: nobody knows "${strange.slice(0, 80)}"`);
    if (missing !== undefined) throw apiProblem('malformed_request', `${what}: ${missing} is missing`);
    if (new Set(head).size < head.length) throw apiProblem('malformed_request', `${what}: each of them once`);
    return questionsIn(lines, head);
  },
  head: `${answerColumns.join(',')}\n`,
  write: (answer) => stringify([rowOf(answer)]),
};

function* questionsIn(
  lines: Iterable<Readonly<{ line: number; text: string }>>,
  head: readonly string[],
): Generator<BulkLine> {
  for (const { line, text } of lines) {
    const long = tooLong(text);
    const cells = long === undefined ? cellsOf(text) : undefined;
    if (cells === undefined) yield { line, unreadable: long ?? 'its quotation marks do not match' };
    else if (cells.length !== head.length)
      yield { line, unreadable: `it has ${cells.length} fields, the first line has ${head.length}` };
    else yield { line, fields: Object.fromEntries(head.flatMap((name, i) => (cells[i] ? [[name, cells[i]]] : []))) };
  }
}

/** A line by itself, so that a quotation mark that is never closed takes no other line along. */
function cellsOf(line: string): readonly string[] | undefined {
  try {
    return parse(line, { relax_column_count: true, trim: true })[0];
  } catch {
    return undefined;
  }
}

function rowOf(answer: BulkAnswer): readonly (string | number | null)[] {
  const { line, ref } = answer;
  const row: Partial<Record<(typeof answerColumns)[number], string | number | null>> =
    'error' in answer
      ? { line, ref, error: answer.error.code, detail: answer.error.detail }
      : {
          ...{ line, ref, address: answer.address, protocol: answer.protocol, port: answer.port, at: answer.at },
          ...{ machine: answer.machine?.id ?? null, slice: answer.machine?.slice ?? null },
          ...{ generation: answer.machine?.generation ?? null, certainty: answer.certainty },
          holders: answer.holders.map(({ holder }) => holder).join(' '),
          leases: answer.holders.map(({ lease }) => lease).join(' '),
          basis: answer.holders[0]?.basis ?? null,
          client: answer.holders.length === 1 ? (answer.holders[0]?.client ?? null) : null,
          ...{ flow_log: answer.flow_log, complete_through: answer.complete_through },
          history_since: answer.history_since,
        };
  return answerColumns.map((column) => row[column] ?? null);
}
