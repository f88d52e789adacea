/** A question about all flows, answered a piece at a time: wherever it yields, packets may go on, and flows come and go. */
export type Walk<Answer> = Generator<undefined, Answer, undefined>;

/** A millisecond's worth, if an address of each is made a text. */
const rowsPerPiece_max = 2_048;

/** The rows from 0 up to `count`, exclusive, each given to `look` until that is false. */
export function* walkRows(count: number, look: (row: number) => boolean): Walk<void> {
  for (let row = 0; row < count; row++) {
    if (!look(row)) return;
    if (row % rowsPerPiece_max === rowsPerPiece_max - 1) yield;
  }
}

/** Up to `max` of them, the largest first. */
export function* largestOf<Each>(all: Iterable<Each>, sizeOf: (each: Each) => number, max: number): Walk<Each[]> {
  let found: Each[] = [];
  const keepLargest = (): void => {
    found = found.sort((a, b) => sizeOf(b) - sizeOf(a)).slice(0, max);
  };
  let looked = 0;
  for (const each of all) {
    found.push(each);
    if (found.length >= max + rowsPerPiece_max) keepLargest();
    if (++looked % rowsPerPiece_max === 0) yield;
  }
  keepLargest();
  return found;
}

/** All of it at once. */
export function answerOf<Answer>(walk: Walk<Answer>): Answer {
  for (;;) {
    const piece = walk.next();
    if (piece.done) return piece.value;
  }
}
