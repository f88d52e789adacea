/**
 * Waits for statements that were sent together. Throws what the first that failed ran into; those behind it only say that
 * the transaction is over.
 */
export async function answersOf<T>(sent: readonly Promise<T>[]): Promise<readonly T[]> {
  const settled = await Promise.allSettled(sent);
  return settled.map((answer) => {
    if (answer.status === 'rejected') throw answer.reason;
    return answer.value;
  });
}
