import { spawn } from 'node:child_process';

/** An IP packet as it was on a link. `at`: seconds since 1970, of the link's own clock. */
export type Captured = Readonly<{ at: number; bytes: Uint8Array }>;

const [fileHeader_bytes, recordHeader_bytes, ethernet_bytes] = [24, 16, 14];

export type Capture = Readonly<{ packets: () => readonly Captured[]; stop: () => void }>;

/** What tcpdump sees come in by a device, packet by packet, until it is stopped. Resolves when it listens. */
export async function capture(namespace: string, device: string, filter: string): Promise<Capture> {
  const options = ['-i', device, '-U', '--immediate-mode', '-Q', 'in', '-s', '0', '-w', '-'];
  const child = spawn('ip', ['netns', 'exec', namespace, 'tcpdump', ...options, ...filter.split(' ')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let written = Buffer.alloc(0);
  child.stdout.on('data', (chunk: Buffer) => (written = Buffer.concat([written, chunk])));
  let said = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('listening on')) resolve();
    });
    child.once('exit', () => reject(new Error(`tcpdump ended: ${said}`)));
  });
  const packets = () => {
    const found: Captured[] = [];
    for (let at = fileHeader_bytes; at + recordHeader_bytes <= written.length;) {
      const length = written.readUInt32LE(at + 8);
      const data = at + recordHeader_bytes;
      if (data + length > written.length) break;
      const seconds = written.readUInt32LE(at) + written.readUInt32LE(at + 4) / 1e6;
      found.push({ at: seconds, bytes: Uint8Array.from(written.subarray(data + ethernet_bytes, data + length)) });
      at = data + length;
    }
    return found;
  };
  return { packets, stop: () => child.kill('SIGKILL') };
}
