/**
 * The real server in a namespace, driven by the test over IPC: requests come as {id, url, method, headers, body}, answers
 * go back as {id, status, type, text}. The first message is {url, secret}.
 */
import { RealServer } from '../../support/real-server.ts';

type Request = Readonly<{ id: number; url: string; method: string; headers: Record<string, string>; body?: string }>;

const server = await RealServer.start();
process.on('message', (message) => {
  const { id, url, method, headers, body } = message as Request;
  void fetch(url, { method, headers, ...(body === undefined ? {} : { body }) }).then(
    async (response) =>
      process.send?.({
        id,
        status: response.status,
        type: response.headers.get('content-type') ?? '',
        text: await response.text(),
      }),
    (error: unknown) => process.send?.({ id, error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
const { secret } = await server.client.tokens.create({ name: 'test', role: 'operator' });
process.send?.({ url: server.url, secret });
