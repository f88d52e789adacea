import { request } from 'node:http';
import { z } from 'zod';
import { exitCodes, type CommandContext } from './command.ts';

/** Longer than anything that is asked of the agent takes: a trace looks for a minute at most. */
const timeout_ms = 90_000;
const answer_bytes_max = 256 * 1_024 * 1_024;

export const socketFlag = {
  socket: z.string().default('/var/lib/fishery/agent.sock').meta({
    description: 'The status socket of the agent: agent.sock in its state_dir. Root alone may open it',
  }),
};

/** The body of a page on a Unix socket, and its status. Rejects when nobody answers there. */
function get(socketPath: string, path: string): Promise<Readonly<{ status: number; body: string }>> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path, timeout: timeout_ms }, (response) => {
      let [body, bytes] = ['', 0];
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        bytes += text.length;
        if (bytes > answer_bytes_max) asking.destroy(new Error('the answer is too long'));
        else body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    asking.on('timeout', () => asking.destroy(new Error('no answer in time')));
    asking.on('error', reject);
    asking.end();
  });
}

/** What the agent of this host answers; or the exit code, when what is wrong has been said. */
export async function askAgent(
  socket: string,
  path: string,
  query: Readonly<Record<string, string | number | undefined>>,
  complain: CommandContext['complain'],
): Promise<string | number> {
  const given = Object.entries(query).flatMap(([key, value]): [string, string][] =>
    value === undefined ? [] : [[key, String(value)]],
  );
  try {
    const { status, body } = await get(socket, `${path}?${new URLSearchParams(given).toString()}`);
    if (status === 200) return body;
    complain(body.trim());
    return status === 400 ? exitCodes.usage : status === 409 ? exitCodes.refused : exitCodes.unreachable;
  } catch (error) {
    complain(`no agent answers at ${socket}: ${error instanceof Error ? error.message : String(error)}`);
    return exitCodes.unreachable;
  }
}
