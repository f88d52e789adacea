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
  readonly #open = new Set<Socket>();
  readonly #close: () => Promise<void>;
  #to: URL;

  private constructor(url: string, to: URL, close: () => Promise<void>) {
    this.url = url;
    this.#to = to;
    this.#close = close;
  }

  /** From now on to another server: who is connected is cut off. */
  leadTo(to: string): void {
    this.#to = new URL(to);
    for (const socket of this.#open) socket.destroy();
  }

  static async lay(to: string): Promise<Cable> {
    const url = new URL(to);
    const server = createServer((client) => {
      if (cable.isCut) {
        client.destroy();
        return;
      }
      const upstream = connect(Number(cable.#to.port), cable.#to.hostname);
      const cut = () => {
        client.destroy();
        upstream.destroy();
      };
      for (const socket of [client, upstream]) {
        cable.#open.add(socket);
        socket.on('error', cut).on('close', () => cable.#open.delete(socket));
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
        // What the server says before is lost too, and it has committed by the time that it says so.
        upstream.on('data', (answer: Buffer) => {
          if (isCommit(answer)) cut();
        });
        upstream.write(data);
      });
      upstream.on('data', (data: Buffer) => client.write(data));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url.port = String((server.address() as AddressInfo).port);
    const cable = new Cable(url.href, new URL(to), async () => {
      for (const socket of cable.#open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    return cable;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}
