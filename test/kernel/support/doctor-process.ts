import { createServer, type Server } from 'node:http';
import { agentSettings } from '../../../src/agent/settings/settings.ts';
import { checks } from '../../../src/doctor/checks.ts';
import { chooseChecks } from '../../../src/doctor/diagnose.ts';
import { examine, mend } from '../../../src/doctor/doctor.ts';
import { parseSlice } from '../../../src/doctor/observe/observer.ts';
import { reportDocument } from '../../../src/doctor/report.ts';
import { AF_INET, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_SOCKET } from '../../../src/sys/constants.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { libc } from '../../../src/sys/libc.ts';
import { listenSeqpacket } from '../../../src/sys/seqpacket.ts';

/** Runs the doctor on request in the namespace that it was started in, and opens what sockets a test wants to see there. */
export type DoctorRequest =
  | { op: 'examine'; only: readonly string[]; settings: object; slices: readonly string[]; fix: boolean }
  | { op: 'bind'; address: string; port: number; protocol: 'tcp' | 'udp'; listen: boolean; device?: string }
  | { op: 'packet-socket' }
  | { op: 'seqpacket'; path: string }
  | { op: 'serve'; at: number | string; date?: string; answers: Readonly<Record<string, string>> }
  | { op: 'close-all' };

const AF_PACKET = 17;
const SO_BINDTODEVICE = 25;
const open: number[] = [];
const servers: Server[] = [];

function made(fd: number): number {
  if (fd < 0) throw new Error(`errno ${libc().errno()}`);
  open.push(fd);
  return fd;
}

function check(result: number): void {
  if (result < 0) throw new Error(`errno ${libc().errno()}`);
}

/** struct sockaddr_in. */
function socketAddress(address: string, port: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(16));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  bytes.set(address.split('.').map(Number), 4);
  return bytes;
}

async function answer(request: DoctorRequest): Promise<unknown> {
  const c = libc();
  switch (request.op) {
    case 'examine': {
      const chosen = chooseChecks(checks, { only: request.only, skip: [] });
      if (!chosen.ok) throw new Error(chosen.error);
      const options = {
        settings: agentSettings.parse(request.settings),
        machine: 'edge',
        slices: request.slices.map((text) => {
          const slice = parseSlice(text);
          if (!slice.ok) throw new Error(slice.error);
          return slice.value;
        }),
      };
      const diagnosis = await examine(chosen.value, options);
      if (!request.fix) return reportDocument(diagnosis, null);
      const mended = await mend(diagnosis);
      return reportDocument(await examine(chosen.value, options), mended);
    }
    case 'bind': {
      const fd = made(c.socket(AF_INET, request.protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM, 0));
      if (request.device !== undefined) {
        const name = Buffer.from(`${request.device}\0`);
        check(c.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length));
      }
      check(c.bind(fd, socketAddress(request.address, request.port), 16));
      if (request.listen) check(c.listen(fd, 1));
      return undefined;
    }
    case 'packet-socket':
      // ETH_P_ALL, in network order.
      made(c.socket(AF_PACKET, SOCK_RAW, 0x0300));
      return undefined;
    case 'seqpacket':
      made(listenSeqpacket(request.path));
      return undefined;
    case 'serve': {
      const server = createServer((call, response) => {
        const body = request.answers[call.url ?? ''];
        if (request.date !== undefined) response.setHeader('date', request.date);
        response.writeHead(body === undefined ? 404 : 200);
        response.end(body ?? '');
      });
      servers.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(request.at, () => resolve());
      });
      return undefined;
    }
    case 'close-all':
      for (const fd of open.splice(0)) closeFd(fd);
      for (const server of servers.splice(0)) {
        server.closeAllConnections();
        server.close();
      }
      return undefined;
  }
}

process.on('message', (message) => {
  const { id, request } = message as { id: number; request: DoctorRequest };
  answer(request).then(
    (value) => process.send?.({ id, value }),
    (error: unknown) =>
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
process.on('disconnect', () => process.exit());
process.send?.({ id: 0 });
