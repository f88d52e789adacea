import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Job, LoadResult, Reply } from './http-load.ts';

const program = fileURLToPath(new URL('http-load.ts', import.meta.url));

/** A process that loads servers, job after job. */
export class Load implements Disposable {
  readonly #child = fork(program, { execArgv: [], serialization: 'advanced' });

  run(job: Job): Promise<LoadResult> {
    const { promise, resolve, reject } = Promise.withResolvers<LoadResult>();
    const onExit = (code: number | null) => reject(new Error(`the load ended with ${code}`));
    this.#child.once('exit', onExit);
    this.#child.once('message', (reply: Reply) => {
      this.#child.off('exit', onExit);
      if ('result' in reply) resolve(reply.result);
      else reject(new Error(reply.error));
    });
    this.#child.send(job);
    return promise;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
