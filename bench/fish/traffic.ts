import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { originOf, type FishLab, type Side } from './lab.ts';

const seconds = 1.5;
const port = 9_000;
/** Ports that the origin accepts at: a leased port serves a connection to each. */
const acceptPorts = { first: 10_000, count: 64 };
const connectionsAtATime = 64;
/** UDP in large pieces, cut by the network card, or whoever receives: 44 datagrams of 1,400 bytes in one. */
const gso = { bytes: 1_400, segments: 44 };
/** On their way at a time: what no queue between the two has to drop. */
const window_datagrams = 512;
/** 64 bytes of IP. */
const smallest_bytes = 36;

/** A way to load one side, which says how much got through. It is opened once for all rounds. */
export type Traffic = Readonly<{ unit: string; run: (side: Side) => Promise<number>; close: () => void }>;

/** What iperf3 tells. */
type Said = Readonly<{ error?: string; end: Readonly<{ sum_received?: Readonly<{ bits_per_second: number }> }> }>;
const busyTries_max = 50;
const betweenTries_ms = 100;

/** One TCP connection as fast as it goes: what the receiver got. */
export async function bulk(lab: FishLab, direction: 'up' | 'down'): Promise<Traffic> {
  const { origin, clientSide } = lab.lab;
  const sink = lab.lab.spawn(origin, ['iperf3', '-s', '--forceflush']);
  if (sink.stdout) await once(sink.stdout, 'data');
  return {
    unit: 'Mbit/s',

    run: async (side) => {
      const way = direction === 'down' ? '--reverse' : '';
      const command = `iperf3 -J -c ${originOf[side]} -t ${seconds} -O 0.3 --connect-timeout 5000 ${way}`;
      for (let attempt = 0; ; attempt++) {
        // With JSON it says what is wrong in that, and fails.
        const said = JSON.parse(lab.lab.shell(clientSide, `${command} || true`)) as Said;
        if (said.end.sum_received) return said.end.sum_received.bits_per_second / 1e6;
        // It serves one at a time, and the end of the last one may still be on its way.
        if (attempt === busyTries_max || !said.error?.includes('busy')) throw new Error(`${side}: ${said.error}`);
        await sleep(betweenTries_ms);
      }
    },
    close: () => sink.kill('SIGKILL'),
  };
}

type Counted = Readonly<{ bytes: number; datagrams: number; seconds: number }>;

async function datagrams(lab: FishLab, side: Side, bytes: number, segments: number): Promise<Counted> {
  const sink = await lab.atOrigin<Counted>('udp-sink', originOf[side], port);
  lab.atClient('udp-send', originOf[side], port, bytes, segments, window_datagrams, seconds);
  return sink.result();
}

const nothing = () => {};

/** UDP by segmentation offload; the receiver takes datagrams one by one. */
export const udpGso = (lab: FishLab): Traffic => ({
  unit: 'Mbit/s',
  run: async (side) => {
    const { bytes, seconds: took } = await datagrams(lab, side, gso.bytes, gso.segments);
    return (bytes * 8) / took / 1e6;
  },
  close: nothing,
});

/** Smallest packets. */
export const pps64 = (lab: FishLab): Traffic => ({
  unit: 'packets/s',
  run: async (side) => {
    const { datagrams: arrived, seconds: took } = await datagrams(lab, side, smallest_bytes, 1);
    return arrived / took;
  },
  close: nothing,
});

/** Connections that are made and ended at once, by a reset or in order; so many at a time. */
export async function connections(
  lab: FishLab,
  sides: readonly Side[],
  end: 'reset' | 'close' = 'reset',
): Promise<Traffic> {
  const { first, count } = acceptPorts;
  const servers = await Promise.all(sides.map((side) => lab.atOrigin('accept', originOf[side], first, count)));
  return {
    unit: 'connections/s',

    run: async (side) => {
      type Made = Readonly<{ connections: number; failed: number; stuck: number; seconds: number }>;
      const made = lab.atClient('connect', originOf[side], first, count, connectionsAtATime, seconds, end) as Made;
      // A connection that failed cost something, too, and is worth nothing: with many of them the figure means nothing.
      if (made.failed + made.stuck > made.connections / 100) throw new Error(`${side}: ${JSON.stringify(made)}`);
      return made.connections / made.seconds;
    },
    close: () => servers.forEach((server) => server.end()),
  };
}
