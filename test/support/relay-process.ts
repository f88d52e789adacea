/** Relays each connection that it accepts to the port of this host that it was started with, and says where it listens. */
import { connect, createServer, type AddressInfo } from 'node:net';
import { Pipes } from '../../src/terminate/pipes.ts';
import { relay } from '../../src/terminate/relay.ts';

const pipes = new Pipes();
const limits = { idle_timeout_s: 600, half_closed_timeout_s: 600 };
const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
  const to = { host: '127.0.0.1', port: Number(process.argv[2]), allowHalfOpen: true };
  const origin = connect(to, () => relay(client, origin, { limits, pipes, done: () => {} }));
});
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit());
