import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** How the next COMMIT fares: lost on its way to the server, or its answer on the way back. */
export type Fate = 'passes' | 'commit is lost' | 'answer is lost';

const isCommit = (data: Buffer): boolean => data.includes('COMMIT\0');

/** The way between a store and its server, as a relay on the loopback that can lose what a test says. */
export class Cable implements AsyncDisposable {
  readonly url: string;
  fate: Fate = 'passes';
  /** Whether anybody gets through at all. */
  isCut = false;
  readonly #close: () => Promise<void>;

  private constructor(url: string, close: () => Promise<void>) {
    this.url = url;
    this.#close = close;
  }

  static async lay(to: string): Promise<Cable> {
    const url = new URL(to);
    const { hostname, port } = url;
    const open = new Set<Socket>();
    const server = createServer((client) => {
      if (cable.isCut) {
        client.destroy();
        return;
      }
      const upstream = connect(Number(port), hostname);
      const cut = () => {
        client.destroy();
        upstream.destroy();
      };
      for (const socket of [client, upstream]) {
        open.add(socket);
        socket.on('error', cut).on('close', () => open.delete(socket));
        socket.on('close', cut);
      }
      client.on('data', (data: Buffer) => {
        const { fate } = cable;
        if (!isCommit(data) || fate === 'passes') {
          upstream.write(data);
          return;
        }
        cable.fate = 'passes';
        if (fate === 'commit is lost') {
          cut();
          return;
        }
        upstream.removeAllListeners('data');
        // The server has committed by the time that it answers.
        upstream.once('data', cut);
        upstream.write(data);
      });
      upstream.on('data', (data: Buffer) => client.write(data));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url.port = String((server.address() as AddressInfo).port);
    const cable = new Cable(url.href, async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    return cable;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}
