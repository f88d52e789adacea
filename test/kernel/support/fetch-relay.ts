import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

type Asked = Readonly<{ id: number; url: string; method: string; headers: Record<string, string>; body?: string }>;
type Answer = Readonly<{ id: number; status?: number; type?: string; text?: string; error?: string }>;

export type Relay = Readonly<{ fetch: typeof fetch; close: () => void }>;

/** A fetch that is made in another network namespace, by a process there. */
export async function relayTo(namespace: string): Promise<Relay> {
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, fileURLToPath(import.meta.url), 'relay'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const waiting = new Map<number, (answer: Answer) => void>();
  let calls = 0;
  await new Promise((resolve) => child.once('message', resolve));
  child.on('message', (message) => {
    const answer = message as Answer;
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  return {
    fetch: async (input, init) => {
      const id = ++calls;
      const url = input instanceof Request ? input.url : String(input);
      const headers = Object.fromEntries(new Headers(init?.headers));
      const body = init?.body as string | undefined;
      const answer = await new Promise<Answer>((resolve) => {
        waiting.set(id, resolve);
        child.send({ id, url, method: init?.method ?? 'GET', headers, ...(body === undefined ? {} : { body }) });
      });
      if (answer.error !== undefined) throw new TypeError(answer.error);
      const text = answer.text === '' ? null : (answer.text ?? null);
      return new Response(text, { status: answer.status ?? 0, headers: { 'content-type': answer.type ?? '' } });
    },
    close: () => void child.kill('SIGKILL'),
  };
}

if (process.argv[2] === 'relay') {
  process.on('message', (message) => {
    const { id, url, method, headers, body } = message as Asked;
    void fetch(url, { method, headers, ...(body === undefined ? {} : { body }) }).then(
      async (response) => {
        const type = response.headers.get('content-type') ?? '';
        process.send?.({ id, status: response.status, type, text: await response.text() });
      },
      (error: unknown) => process.send?.({ id, error: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit());
  process.send?.({});
}
