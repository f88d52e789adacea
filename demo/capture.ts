import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { flowsIn, type Flow } from './flows.ts';
import { addresses } from './lab.ts';
import { packetsIn, type Packet } from './pcap.ts';
import { Running, until } from './processes.ts';

const originAddresses: ReadonlySet<string> = new Set([addresses.origin, addresses.otherOrigin, addresses.originLink]);

/** tcpdump on the origin's side of the wire: what really arrived there, whoever believes what of himself. */
export class Capture {
  readonly #file: string;
  readonly #tcpdump: Running;
  readonly #origin: Running;
  #marks = 0;

  private constructor(file: string, tcpdump: Running, origin: Running) {
    this.#file = file;
    this.#tcpdump = tcpdump;
    this.#origin = origin;
  }

  static async start(folder: string, namespace: string, link: string, origin: Running): Promise<Capture> {
    const file = join(folder, `${namespace}.pcap`);
    // 256 bytes hold every header and a request's first line. -Z root: it would else give up the right to write here.
    const options = [
      '-i',
      link,
      '-w',
      file,
      '-s',
      '256',
      '-B',
      '32768',
      '-U',
      '--immediate-mode',
      '-n',
      '-Z',
      'root',
      'ip',
    ];
    const tcpdump = new Running({ name: `${namespace}-tcpdump`, namespace, command: ['tcpdump', ...options] }, folder);
    await tcpdump.printed(/listening on/);
    return new Capture(file, tcpdump, origin);
  }

  /** Everything that has passed until now, but for the marks. */
  async packets(): Promise<Packet[]> {
    const word = `mark-${++this.#marks}-${process.pid}`;
    this.#origin.say(`mark ${word}`);
    return until(`the capture to reach ${word}`, () => {
      if (!existsSync(this.#file)) return undefined;
      const packets = [...packetsIn(readFileSync(this.#file))];
      const isMark = (packet: Packet) => packet.destination === addresses.broadcast;
      return packets.some((packet) => isMark(packet) && new TextDecoder().decode(packet.payload) === word)
        ? packets.filter((packet) => !isMark(packet))
        : undefined;
    });
  }

  async flows(): Promise<Flow[]> {
    return flowsIn(await this.packets(), (address) => originAddresses.has(address));
  }

  /** Ends it. How many packets the kernel could not hand over: a claim about all of them needs 0. */
  async stop(): Promise<number> {
    await this.#tcpdump.stop('SIGINT');
    const match = /(\d+) packets? dropped by kernel/.exec(this.#tcpdump.log());
    if (!match) throw new Error(`tcpdump did not say what it missed: ${this.#tcpdump.log()}`);
    return Number(match[1]);
  }
}
