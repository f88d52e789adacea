import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { FlowMemory } from '../../../src/fish/flows/flow-memory.ts';
import { AddressBook } from '../../../src/fish/packet/address-book.ts';
import { Packet } from '../../../src/fish/packet/packet.ts';
import {
  CALLED,
  CLOSED,
  CLOSING,
  DOUBTFUL,
  ESTABLISHED,
  INWARD,
  OPENING,
  OUTWARD,
  RESET,
  STRAY,
  TcpTracker,
} from '../../../src/fish/flows/tcp-state.ts';
import { client, origin } from '../../support/fish.ts';
import { build, tcp } from '../../support/packets.ts';

const meanings: Readonly<Record<number, string>> = {
  [OPENING]: 'opening',
  [ESTABLISHED]: 'established',
  [CLOSING]: 'closing',
  [CLOSED]: 'closed',
  [RESET]: 'reset',
  [DOUBTFUL]: 'doubtful',
  [STRAY]: 'stray',
  [CALLED]: 'called',
};

/** `>` from the client, `<` from the remote; flags; sequence; acknowledgement; then bytes of data and more. */
type Segment = readonly [
  way: '>' | '<',
  flags: string,
  sequence: number,
  acknowledgement?: number,
  more?: Readonly<{ bytes?: number; window?: number; options?: readonly number[] }>,
];

class Connection {
  readonly #tracker = new TcpTracker(
    FlowMemory.local({ flowsMax: 2, blocksMax: 1, peersMax: 0, addressesMax: 0 }).columns.tcp,
  );
  readonly #packet = new Packet(0, new AddressBook(new Uint32Array(0), () => 0));
  /** Sequence numbers in the tests count from here, so that they may wrap around. */
  readonly #base: number;
  #open = false;

  constructor(base = 0) {
    this.#base = base;
  }

  /** The row becomes another flow's. */
  end(): void {
    this.#open = false;
  }

  see([way, flags, sequence, acknowledgement = 0, more = {}]: Segment): string {
    const [from, to] = way === '>' ? [client, origin] : [origin, client];
    const bytes = build(
      tcp(from, to, flags, {
        sequence: (this.#base + sequence) >>> 0,
        acknowledgement: (this.#base + acknowledgement) >>> 0,
        window: more.window ?? 1_000,
        tcpOptions: more.options ?? [],
        data: new Uint8Array(more.bytes ?? 0),
      }),
    );
    expect(this.#packet.parse(bytes, bytes.length)).toBe(0);
    // Row 1, so that a mixed-up row would show.
    if (!this.#open) {
      this.#tracker.open(1, OUTWARD, this.#packet);
      this.#open = true;
      return 'opening';
    }
    return meanings[this.#tracker.observe(1, way === '>' ? OUTWARD : INWARD, this.#packet)] ?? '?';
  }
}

const ledger = (base: number, rows: readonly (readonly [Segment, string])[]) => {
  const connection = new Connection(base);
  expect(rows.map(([segment]) => connection.see(segment))).toEqual(rows.map(([, meaning]) => meaning));
};
const after = (...segments: Segment[]) => {
  const connection = new Connection();
  for (const each of segments) connection.see(each);
  return connection;
};

const handshake: Segment[] = [
  ['>', 'S', 100],
  ['<', 'SA', 500, 101],
  ['>', 'A', 101, 501],
];

describe.each([
  ['from 0', 0],
  // Every number of the handshake and the data wraps around somewhere.
  ['around 2^32', 2 ** 32 - 550],
])('a connection whose sequence numbers run %s', (_where, base) => {
  test('that the client closes', () =>
    ledger(base, [
      [['>', 'S', 100], 'opening'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'A', 101, 501], 'established'],
      [['>', 'PA', 101, 501, { bytes: 50 }], 'established'],
      [['<', 'A', 501, 151, { bytes: 400 }], 'established'],
      [['>', 'FA', 151, 901], 'established'],
      [['<', 'A', 901, 152, { bytes: 10 }], 'established'],
      [['<', 'FA', 911, 152], 'closing'],
      [['>', 'A', 152, 912], 'closed'],
    ]));

  test('that both close at once, with the FINs crossing', () =>
    ledger(base, [
      ...handshake.map((each, i) => [each, i < 2 ? 'opening' : 'established'] as const),
      [['>', 'FA', 101, 501], 'established'],
      [['<', 'FA', 501, 101], 'closing'],
      [['>', 'A', 102, 502], 'closing'],
      [['<', 'A', 502, 102], 'closed'],
    ]));

  test('whose last acknowledgement is lost and sent again', () =>
    ledger(base, [
      ...handshake.map((each, i) => [each, i < 2 ? 'opening' : 'established'] as const),
      [['<', 'FA', 501, 101], 'established'],
      [['>', 'FA', 101, 502], 'closing'],
      [['<', 'FA', 501, 101], 'closing'],
      [['>', 'FA', 101, 502], 'closing'],
      [['<', 'A', 502, 102], 'closed'],
    ]));

  test('that opens from both sides at once (RFC 5382 REQ-2)', () =>
    ledger(base, [
      [['>', 'S', 100], 'opening'],
      [['<', 'S', 500], 'called'],
      [['>', 'SA', 100, 501], 'opening'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'A', 101, 501, { bytes: 1 }], 'established'],
    ]));

  test('that carries data in its SYN (Fast Open), answered at once', () =>
    ledger(base, [
      [['>', 'S', 100, 0, { bytes: 20 }], 'opening'],
      [['<', 'SA', 500, 121], 'opening'],
      [['<', 'A', 501, 121, { bytes: 700 }], 'established'],
      [['>', 'A', 121, 1_201], 'established'],
    ]));

  test('whose SYN data the remote ignores, so that it is sent again', () =>
    ledger(base, [
      [['>', 'S', 100, 0, { bytes: 20 }], 'opening'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'A', 101, 501, { bytes: 20 }], 'established'],
      [['<', 'A', 501, 121], 'established'],
    ]));

  test('whose SYN and SYN-ACK are sent again', () =>
    ledger(base, [
      [['>', 'S', 100], 'opening'],
      [['>', 'S', 100], 'opening'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'S', 100], 'opening'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'A', 101, 501], 'established'],
      // The client's ACK was lost on the way.
      [['<', 'SA', 500, 101], 'established'],
      [['>', 'A', 101, 501], 'established'],
    ]));
});

describe('a reset', () => {
  test.each<[string, Segment, string]>([
    ['with the number that the client awaits', ['<', 'R', 501, 101], 'reset'],
    ['with an acknowledgement beside it', ['<', 'RA', 501, 101], 'reset'],
    ['one before it', ['<', 'R', 500, 101], 'stray'],
    ['one after it, in window', ['<', 'R', 502, 101], 'doubtful'],
    ['at the end of the window', ['<', 'R', 1_501, 101], 'doubtful'],
    ['beyond the window', ['<', 'R', 1_502, 101], 'stray'],
    ['half the space away', ['<', 'R', 501 + 2 ** 31], 'stray'],
    ['of the client, with the number that the remote awaits', ['>', 'R', 101], 'reset'],
    ['of the client, of another connection', ['>', 'R', 77_777], 'stray'],
  ])('%s', (_what, segment, meaning) => {
    expect(after(...handshake).see(segment)).toBe(meaning);
  });

  test('right behind data that has not been acknowledged yet', () => {
    expect(after(...handshake, ['<', 'A', 501, 101, { bytes: 300 }]).see(['<', 'R', 801])).toBe('reset');
  });

  test('that answers data which arrived too late', () => {
    // The client closed its socket; its reset carries what the remote acknowledged.
    expect(after(...handshake, ['>', 'PA', 101, 501, { bytes: 50 }], ['<', 'A', 501, 121]).see(['>', 'R', 121])).toBe(
      'reset',
    );
  });

  test.each<[string, Segment, string]>([
    ['refuses the SYN', ['<', 'RA', 0, 101], 'reset'],
    ['acknowledges something else', ['<', 'RA', 0, 102], 'stray'],
    ['acknowledges nothing', ['<', 'R', 0, 101], 'stray'],
  ])('that %s', (_what, segment, meaning) => {
    expect(after(['>', 'S', 100]).see(segment)).toBe(meaning);
  });

  test('that refuses a SYN with data may acknowledge all of it', () => {
    expect(after(['>', 'S', 100, 0, { bytes: 20 }]).see(['<', 'RA', 0, 121])).toBe('reset');
  });
});

describe('what a stranger may try', () => {
  test('a forged SYN in front of the real answer delays nothing', () =>
    ledger(0, [
      [['>', 'S', 100], 'opening'],
      [['<', 'S', 9_999_999], 'called'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'A', 101, 501], 'established'],
      [['<', 'R', 501], 'reset'],
    ]));

  test.each<[string, Segment]>([
    ['right behind it', ['<', 'R', 8]],
    ['in its window', ['<', 'R', 9]],
    ['that acknowledges anything', ['<', 'RA', 8, 4_711]],
  ])('a forged SYN makes no forged reset true: %s', (_what, reset) =>
    ledger(0, [
      [['>', 'S', 100], 'opening'],
      [['<', 'S', 7], 'called'],
      [reset, 'stray'],
      [['<', 'SA', 500, 101], 'opening'],
      [['>', 'A', 101, 501], 'established'],
    ]),
  );

  test("a SYN that the client has acknowledged is the other end's, and its reset counts", () =>
    ledger(0, [
      [['>', 'S', 100], 'opening'],
      [['<', 'S', 500], 'called'],
      [['>', 'SA', 100, 501], 'opening'],
      [['<', 'R', 501], 'reset'],
    ]));

  test('a forged SYN-ACK that does not know the SYN is no answer', () => {
    expect(after(['>', 'S', 100]).see(['<', 'SA', 500, 100])).toBe('stray');
    expect(after(['>', 'S', 100]).see(['<', 'SA', 500, 102])).toBe('stray');
  });

  test('data out of window moves nothing, so that no reset behind it counts', () => {
    const connection = after(...handshake);
    expect(connection.see(['<', 'A', 900_000, 101, { bytes: 10 }])).toBe('stray');
    expect(connection.see(['<', 'R', 900_010])).toBe('stray');
    // In window by its sequence, but it acknowledges what the client never sent.
    expect(connection.see(['<', 'A', 600, 5_000, { bytes: 10 }])).toBe('stray');
    expect(connection.see(['<', 'R', 610])).toBe('doubtful');
    // Too old an acknowledgement.
    expect(connection.see(['<', 'A', 600, 101 - 66_001, { bytes: 10 }])).toBe('stray');
    expect(connection.see(['<', 'A', 501, 101])).toBe('established');
  });

  test('a SYN into an established connection changes nothing', () => {
    const connection = after(...handshake);
    expect(connection.see(['<', 'S', 4_000])).toBe('stray');
    expect(connection.see(['<', 'SA', 4_000, 101])).toBe('stray');
    expect(connection.see(['<', 'R', 4_001])).toBe('stray');
    expect(connection.see(['<', 'R', 501])).toBe('reset');
  });

  // With two numbers of 32 bits to guess, a thousand guesses are as good as none.
  test.prop([
    fc.array(
      fc.tuple(
        fc.constantFrom('A', 'FA', 'R', 'RA', 'S', 'SA'),
        fc.nat({ max: 2 ** 32 - 1 }),
        fc.nat({ max: 2 ** 32 - 1 }),
        fc.nat({ max: 1_000 }),
      ),
      { maxLength: 40 },
    ),
  ])('guessed segments neither end nor close a connection', (guesses) => {
    const connection = after(...handshake);
    for (const [flags, sequence, acknowledgement, bytes] of guesses) {
      const near = Math.abs((sequence - 501) | 0) < 70_000;
      if (!near) connection.see(['<', flags, sequence, acknowledgement, { bytes }]);
    }
    expect(connection.see(['<', 'A', 501, 101, { bytes: 10 }])).toBe('established');
    expect(connection.see(['<', 'R', 511])).toBe('reset');
  });
});

describe('a client', () => {
  test('that tries again from the same port, with another sequence number, is followed there', () =>
    ledger(0, [
      [['>', 'S', 100], 'opening'],
      [['>', 'S', 70_000], 'opening'],
      [['<', 'RA', 0, 70_001], 'reset'],
    ]));

  test('that has lost its connection, and so has its server, is followed into the next one', () => {
    const begun: (readonly [Segment, string])[] = [
      ...handshake.map((each, i) => [each, i < 2 ? 'opening' : 'established'] as const),
      [['>', 'S', 900_000], 'established'],
      // Neither an answer to another SYN, nor the challenge of a server that knows the old one, begins anything.
      [['<', 'SA', 3_000_000, 900_002], 'stray'],
      [['<', 'A', 501, 101], 'established'],
      [['<', 'SA', 3_000_000, 900_001], 'opening'],
      [['>', 'A', 900_001, 3_000_001], 'established'],
    ];
    ledger(0, [
      ...begun,
      [['>', 'FA', 900_001, 3_000_001], 'established'],
      [['<', 'FA', 3_000_001, 900_002], 'closing'],
      [['>', 'A', 900_002, 3_000_002], 'closed'],
    ]);
    ledger(0, [...begun, [['<', 'R', 501], 'stray'], [['<', 'R', 3_000_001], 'reset']]);
  });

  test('that begins anew has nothing more to do with who called meanwhile, so that its own other end may', () =>
    ledger(0, [
      [['>', 'S', 100], 'opening'],
      [['<', 'S', 7], 'called'],
      [['>', 'S', 70_000], 'opening'],
      [['<', 'S', 500], 'called'],
      [['>', 'SA', 70_000, 501], 'opening'],
      [['<', 'A', 501, 70_001], 'established'],
    ]));

  test('that began anew, without an answer, leaves nothing to the next flow in its row', () => {
    const connection = after(...handshake, ['>', 'S', 900_000]);
    connection.end();
    expect(connection.see(['>', 'S', 100])).toBe('opening');
    expect(connection.see(['<', 'SA', 3_000_000, 900_001])).toBe('stray');
  });

  test('that resets at a number which was acknowledged long ago resets nothing, however late that is said again', () => {
    const sent: Segment[] = [...handshake, ['>', 'PA', 101, 501, { bytes: 50 }]];
    expect(after(...sent, ['<', 'A', 501, 151], ['<', 'A', 501, 121]).see(['>', 'R', 121])).toBe('stray');
  });

  test('out of window keeps its flow as it is', () => {
    const connection = after(...handshake);
    expect(connection.see(['>', 'A', 500_000, 501])).toBe('established');
    expect(connection.see(['>', 'S', 500_000])).toBe('established');
    expect(connection.see(['>', 'R', 101])).toBe('reset');
  });
});

describe('windows', () => {
  const scale = (shift: number) => [1, 3, 3, shift];
  const opened = (clientOptions: readonly number[], remoteOptions: readonly number[]) =>
    after(
      ['>', 'S', 100, 0, { options: clientOptions }],
      ['<', 'SA', 500, 101, { options: remoteOptions }],
      ['>', 'A', 101, 501, { window: 1_000 }],
    );

  test.each([
    ['are scaled by what the SYN offered', scale(4), scale(2), 16_000],
    ['are not scaled when only one side offers it', scale(4), [], 1_000],
    ['are not scaled when only the other side offers it', [], scale(4), 1_000],
    ['are scaled by 14 at the most', scale(200), scale(0), 1_000 << 14],
    [
      'are scaled by the option wherever it stands',
      [2, 4, 5, 180, 4, 2, 8, 10, ...Array<number>(8).fill(9), 1, 3, 3, 4],
      scale(2),
      16_000,
    ],
    ['are not scaled by what comes after the end of the options', [0, 3, 3, 4], scale(2), 1_000],
    ['are not scaled by an option of a wrong length', [3, 4, 4, 0], scale(2), 1_000],
    ['are not scaled by an option that goes beyond the header', [1, 1, 3, 3], scale(2), 1_000],
    ['are not scaled behind an option without length', [8, 0, 3, 3, 4, 0, 0, 0], scale(2), 1_000],
  ])('%s', (_what, clientOptions, remoteOptions, window) => {
    expect(opened(clientOptions, remoteOptions).see(['<', 'A', 501 + window, 101, { bytes: 1 }])).toBe('established');
    expect(opened(clientOptions, remoteOptions).see(['<', 'A', 502 + window, 101, { bytes: 1 }])).toBe('stray');
  });

  test('bound how old what is sent again may be', () => {
    const connection = after(
      ...handshake,
      ['<', 'A', 501, 101, { bytes: 900 }],
      ['>', 'A', 101, 1_401],
      ['<', 'A', 1_401, 101, { bytes: 900 }],
    );
    expect(connection.see(['<', 'A', 1_300, 101, { bytes: 1 }])).toBe('established');
    expect(connection.see(['<', 'A', 1_299, 101, { bytes: 1 }])).toBe('stray');
  });

  test('may be smaller than an acknowledgement is old which was overtaken', () => {
    const [data, acknowledged] = [
      (from: number): Segment => ['>', 'A', from, 501, { bytes: 1_000 }],
      (to: number): Segment => ['<', 'A', 501, to],
    ];
    const sent = [101, 1_101, 2_101].flatMap((from) => [data(from), acknowledged(from + 1_000)]);
    expect(after(...handshake, ...sent).see(acknowledged(101))).toBe('established');
  });

  test('of 0 at once are probed with one byte, too', () => {
    const connection = after(
      ['>', 'S', 100],
      ['<', 'SA', 500, 101],
      ['>', 'A', 101, 501, { window: 0 }],
      ['<', 'A', 501, 101, { bytes: 1_000 }],
      ['>', 'A', 101, 1_501, { window: 0 }],
    );
    expect(connection.see(['<', 'A', 1_501, 101, { bytes: 1 }])).toBe('established');
  });

  test("that a client's SYN has offered may be used before the answer to it is acknowledged", () => {
    const connection = after(['>', 'S', 100, 0, { bytes: 20, window: 5_000 }], ['<', 'SA', 500, 121]);
    expect(connection.see(['<', 'A', 501, 121, { bytes: 4_000 }])).toBe('established');
    expect(connection.see(['<', 'A', 5_502, 121, { bytes: 1 }])).toBe('stray');
  });

  test('of 0 are probed with one byte, and a keepalive is one byte old', () => {
    const connection = after(
      ...handshake,
      ['<', 'A', 501, 101, { bytes: 1_000 }],
      ['>', 'A', 101, 1_501, { window: 0 }],
    );
    expect(connection.see(['<', 'A', 1_501, 101, { bytes: 1 }])).toBe('established');
    expect(connection.see(['<', 'A', 1_500, 101, { bytes: 1 }])).toBe('established');
    expect(connection.see(['<', 'A', 2_000, 101, { bytes: 1 }])).toBe('stray');
  });
});
