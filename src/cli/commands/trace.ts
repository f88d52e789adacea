import { writeFileSync } from 'node:fs';
import { z } from 'zod';
import { protocols } from '../../net/protocol.ts';
import { AddressText } from '../../wire/primitives.ts';
import { askAgent, socketFlag } from '../agent-socket.ts';
import { defineCommand, exitCodes, jsonFlag } from '../command.ts';

const Step = z.strictObject({ at: z.string(), by: z.enum(['fish', 'kernel']), verdict: z.string(), text: z.string() });
const Trace = z.strictObject({
  steps: z.array(Step),
  pcapng: z.base64(),
  ended_by: z.enum(['packets', 'bytes', 'time']),
  kernel_problem: z.string().nullable(),
});

export const command = defineCommand({
  settings: z.strictObject({}),
  flags: jsonFlag.extend({
    client: AddressText.optional().meta({
      description: 'Only packets from or to this address, before or after translation',
    }),
    remote: AddressText.optional().meta({ description: 'And this one' }),
    leased: AddressText.optional().meta({ description: 'And this one' }),
    protocol: z.enum(protocols).optional().meta({ description: 'Only packets of this protocol' }),
    port: z
      .int()
      .min(1)
      .max(65_535)
      .optional()
      .meta({ description: 'Only packets from or to this port; of echoes their identifier' }),
    packets: z.int().min(1).max(10_000).default(100).meta({ description: 'End after so many' }),
    bytes: z.int().min(1_024).max(67_108_864).default(33_554_432).meta({
      description: 'And when so many bytes of them are kept: with --pcap they are kept whole, before and after',
    }),
    seconds: z.number().min(0.1).max(60).default(10).meta({ description: 'End after so long' }),
    pcap: z
      .string()
      .optional()
      .meta({ description: 'Write the packets to this file (pcapng), before and after translation' }),
    ...socketFlag,
  }),
  details: `A line for each packet that fish read meanwhile: what it was, and what became of it. And a line for each that the kernel
saw, and for each verdict of nftables on its way: the agent's own guard and steering, and others' tables. A drop is told with its
reason in words. ICMP errors about such packets are among them, and all fragments of theirs. The kernel sees a packet as it is at that place: --client finds it before fish, --leased behind it.
The file has what fish read, on two interfaces, "before" and "after", for tcpdump -r and Wireshark. While nobody traces, it costs nothing.`,
  run: async (flags, { print, complain }) => {
    const { client, remote, leased, protocol, port, packets, bytes, seconds } = flags;
    const snap_bytes = flags.pcap === undefined ? undefined : 65_575;
    const query = { client, remote, leased, protocol, port, packets, bytes, seconds, snap_bytes };
    const answer = await askAgent(flags.socket, '/trace', query, complain);
    if (typeof answer === 'number') return answer;
    const { steps, pcapng, ended_by, kernel_problem } = Trace.parse(JSON.parse(answer));
    if (flags.json) print(JSON.stringify({ steps, ended_by }, null, 2));
    else for (const { at, by, text } of steps) print(`${at.slice(11, 26)} ${by.padEnd(6)} ${text}`);
    if (kernel_problem !== null) complain(`not all of the kernel's side: ${kernel_problem}`);
    if (ended_by !== 'time') complain(`ended at --${ended_by} ${flags[ended_by]}: what came later is not here`);
    if (steps.length === 0) complain('no such packet was seen, neither by the kernel nor by fish');
    if (flags.pcap === undefined) return exitCodes.ok;
    try {
      writeFileSync(flags.pcap, Buffer.from(pcapng, 'base64'), { mode: 0o600 });
    } catch (error) {
      complain(`the packets cannot be written: ${error instanceof Error ? error.message : String(error)}`);
      return exitCodes.failure;
    }
    return exitCodes.ok;
  },
});
