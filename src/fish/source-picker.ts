import type { BlockTable } from './blocks.ts';
import type { FishConfig } from './config.ts';
import { NONE, type FlowTable } from './flow-table.ts';
import { isUdp } from './packet.ts';
import type { PlaceholderBudget } from './placeholders.ts';
import type { PortSpace } from './port-space.ts';
import { DROP, FORWARD } from './verdicts.ts';

/** As a parity: both will do. */
const ANY = -1;

/**
 * Finds a leased (address, port) that nothing uses toward a remote yet, and in a shared block takes it in the kernel.
 *
 * Blocks and ports are drawn at random, so a client's flows spread over the leased addresses (IP address pooling
 * "arbitrary" in the words of RFC 4787) and a port cannot be foretold (RFC 6056). With no more ports than
 * `portProbesMax`, all are looked at; with more, a full search of which the share f is taken fails once in f^-probes.
 */
export class SourcePicker {
  readonly #config: FishConfig;
  readonly #flows: FlowTable;
  readonly #blocks: BlockTable;
  readonly #placeholders: PlaceholderBudget;
  readonly #random: () => number;
  /** What was picked, valid after FORWARD. */
  slot = 0;
  address = 0;
  port = 0;
  /** Handle, or NONE in an exclusive block. */
  placeholder = NONE;
  /** Times the kernel may still be asked for this flow, and why it is not asked any more. */
  #attemptsLeft = 0;
  #refusal: number = FORWARD;

  constructor(
    config: FishConfig,
    flows: FlowTable,
    blocks: BlockTable,
    placeholders: PlaceholderBudget,
    random: () => number,
  ) {
    this.#config = config;
    this.#flows = flows;
    this.#blocks = blocks;
    this.#placeholders = placeholders;
    this.#random = random;
  }

  /** FORWARD and the fields above, or the reason why there is no source. `remote` and its port as in the flow's key. */
  pick(protocol: number, clientPort: number, remote: number, remotePort: number): number {
    const space = this.#blocks.spaceFor(protocol);
    if (space === undefined) return DROP.no_lease;
    this.#attemptsLeft = this.#config.placeholderAttemptsMax;
    this.#refusal = FORWARD;
    const probes = Math.min(space.total, this.#config.portProbesMax);
    const start = this.#random() % space.total;
    const keepsParity = this.#config.udpPortParity && isUdp(protocol);
    const parity = keepsParity ? clientPort & 1 : ANY;
    if (this.#search(space, start, probes, parity, protocol, remote, remotePort)) return FORWARD;
    // Better a port of the other parity than none (RFC 4787 4.2.2 asks for no more).
    if (keepsParity && this.#search(space, start, probes, parity ^ 1, protocol, remote, remotePort)) return FORWARD;
    return this.#refusal === FORWARD ? DROP.no_port : this.#refusal;
  }

  #search(
    space: PortSpace,
    start: number,
    probes: number,
    parity: number,
    protocol: number,
    remote: number,
    remotePort: number,
  ): boolean {
    let port = start;
    for (let probe = 0; probe < probes; probe++) {
      if (this.#take(space, port, parity, protocol, remote, remotePort)) return true;
      port += space.step;
      if (port >= space.total) port -= space.total;
    }
    return false;
  }

  #take(space: PortSpace, port: number, parity: number, protocol: number, remote: number, remotePort: number): boolean {
    const index = space.indexOf(port);
    this.slot = space.slotAt(index);
    const shared = this.#blocks.shared[this.slot] === 1;
    if (shared && this.#attemptsLeft === 0) return false;
    // Every slot of the space is one of the block table.
    this.address = this.#blocks.address[this.slot]!;
    this.port = this.#blocks.firstPort[this.slot]! + space.offsetIn(index, port);
    if (parity !== ANY && (this.port & 1) !== parity) return false;
    if (this.#flows.findByLeased(protocol, this.address, this.port, remote, remotePort) >= 0) return false;
    this.placeholder = NONE;
    return !shared || this.#hold(remote, remotePort);
  }

  /** The flow exists only once the kernel has agreed: the first packet must not leave before. */
  #hold(remote: number, remotePort: number): boolean {
    const placeholders = this.#placeholders;
    const binding = this.#blocks.bindingOf(this.slot);
    this.#attemptsLeft--;
    this.placeholder = placeholders.open(this.address, this.port, remote, remotePort, binding);
    if (placeholders.refusal !== FORWARD) {
      // Neither a spent budget nor, say, a missing route gets better by trying another port; exclusive blocks may do.
      this.#refusal = placeholders.refusal;
      this.#attemptsLeft = 0;
    }
    return this.placeholder >= 0;
  }
}
