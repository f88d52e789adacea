import type { Logger } from '../../ops/logger.ts';
import type { FlowAnswer, FlowQuery } from '../../wire/agent.ts';
import type { ForwardedAnswerInput, ForwardedRequest } from '../../wire/broker.ts';
import type { BrokerOnHost } from '../broker-on-host.ts';
import type { FishPort } from '../fish/fish-port.ts';
import { joinAnswers } from '../fish/flow-answers.ts';

/** Where answers go. */
export type QuestionsServer = Readonly<{
  answerFlowQuery(answer: FlowAnswer): Promise<void>;
  /** What the broker said to a request that the server passed on. */
  answerRequest(answer: ForwardedAnswerInput): Promise<void>;
}>;

export type ServerQuestionsParts = Readonly<{
  server: QuestionsServer;
  broker: Pick<BrokerOnHost, 'carryOut'> | null;
  /** Of everybody here who has flows; undefined for one who does not run, and can tell nothing. */
  flowLogs(): readonly (Pick<FishPort, 'answer'> | undefined)[];
  log: Logger;
}>;

/** What the server asks of this host beside its stream. One that cannot be answered is logged: the server asks again, or gives up. */
export class ServerQuestions {
  readonly #parts: ServerQuestionsParts;

  constructor(parts: ServerQuestionsParts) {
    this.#parts = parts;
  }

  /** Whose a flow was. */
  async answer(query: FlowQuery): Promise<void> {
    const { server, flowLogs, log } = this.#parts;
    try {
      const nothing = { covers_since: null, covers_through: null };
      const unknown: FlowAnswer = { id: query.id, ...nothing, clock_margin_s: 0, flows: [] };
      const answers = await Promise.all(flowLogs().map(async (each) => (each ? each.answer(query) : unknown)));
      await server.answerFlowQuery(joinAnswers(query.id, answers));
    } catch (error) {
      log.warn(`a question about flows could not be answered: ${messageOf(error)}`);
    }
  }

  /** What the server was asked for, and this host's broker has to do. */
  async carryOut(request: ForwardedRequest): Promise<void> {
    const { server, broker, log } = this.#parts;
    try {
      if (broker) await server.answerRequest(await broker.carryOut(request));
    } catch (error) {
      log.warn({ request_id: request.request_id }, `a request of the server was not answered: ${messageOf(error)}`);
    }
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
