import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, posix } from 'node:path';
import { promisify } from 'node:util';

type Step = Readonly<{ instruction: string; text: string }>;
export type Stage = Readonly<{ name: string; base: string; steps: readonly Step[] }>;

/** The stages of a Dockerfile in their order; comments and line continuations are gone. */
export function parseDockerfile(source: string): Stage[] {
  const stages: { name: string; base: string; steps: Step[] }[] = [];
  const joined = source.replaceAll(/^\s*#.*\n/gm, '').replaceAll(/\\\n\s*/g, ' ');
  for (const line of joined.split('\n').filter((each) => each.trim() !== '')) {
    const [, instruction = '', text = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    const from = instruction === 'FROM' ? /^(\S+) AS (\S+)$/.exec(text) : null;
    if (from) stages.push({ base: from[1] ?? '', name: from[2] ?? '', steps: [] });
    else {
      const stage = stages.at(-1);
      if (!stage || instruction === '' || instruction === 'FROM') throw new Error(`cannot read the line: ${line}`);
      stage.steps.push({ instruction, text });
    }
  }
  return stages;
}

/** The names after `apt-get install` in a RUN step; empty when it installs none. */
export function aptPackages(command: string): string[] {
  const [, list = ''] = /apt-get install ([^&;|]*)/.exec(command) ?? [];
  return list.split(/\s+/).filter((word) => word !== '' && !word.startsWith('-'));
}

/** What a stage comes to: a folder that stands for `/`, and how its command is run. */
export type Image = {
  folder: string;
  workdir: string;
  env: Record<string, string>;
  user: string;
  volumes: string[];
  entrypoint: string[];
  command: string[];
  healthcheck: string[];
};

/**
 * Builds stages without a container engine: COPY copies, `npm ci` and `install --directory` really run, packages of
 * Debian are left to the reader. A step of any other kind is an error, so that none is passed over in silence.
 */
export class Replay {
  readonly #context: string;
  readonly #stages: readonly Stage[];
  readonly #folder = mkdtempSync(join(tmpdir(), 'fishery-image-'));
  readonly #built = new Map<string, Image>();

  constructor(options: Readonly<{ context: string; stages: readonly Stage[] }>) {
    this.#context = options.context;
    this.#stages = options.stages;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async build(name: string): Promise<Image> {
    const done = this.#built.get(name);
    if (done) return done;
    const stage = this.#stages.find((each) => each.name === name);
    if (!stage) throw new Error(`there is no stage ${name}`);
    const image = await this.#start(stage);
    for (const step of stage.steps) await this.#replay(image, step);
    this.#built.set(name, image);
    return image;
  }

  async #start(stage: Stage): Promise<Image> {
    const folder = join(this.#folder, stage.name);
    if (!this.#stages.some((each) => each.name === stage.base)) {
      mkdirSync(folder);
      return { folder, workdir: '/', env: {}, user: 'root', volumes: [], entrypoint: [], command: [], healthcheck: [] };
    }
    const base = await this.build(stage.base);
    link(base.folder, folder);
    return { ...structuredClone(base), folder };
  }

  async #replay(image: Image, { instruction, text }: Step): Promise<void> {
    switch (instruction) {
      case 'WORKDIR':
        image.workdir = posix.resolve(image.workdir, text);
        mkdirSync(join(image.folder, image.workdir), { recursive: true });
        return;
      case 'COPY':
        await this.#copy(image, text.split(/\s+/));
        return;
      case 'RUN':
        await this.#run(image, text);
        return;
      case 'ENV':
        for (const [, name = '', value = ''] of text.matchAll(/([A-Z_]+)=(\S+)/g)) image.env[name] = value;
        return;
      case 'USER':
        image.user = text;
        return;
      case 'VOLUME':
        image.volumes.push(text);
        return;
      case 'EXPOSE':
        return;
      case 'ENTRYPOINT':
        image.entrypoint = words(text);
        return;
      case 'CMD':
        image.command = words(text);
        return;
      case 'HEALTHCHECK':
        image.healthcheck = words(text.slice(text.indexOf('CMD') + 3));
        return;
      default:
        throw new Error(`the replay does not know ${instruction} ${text}`);
    }
  }

  async #copy(image: Image, args: string[]): Promise<void> {
    const from = args[0]?.startsWith('--from=')
      ? (await this.build(args[0].slice('--from='.length))).folder
      : undefined;
    const paths = from === undefined ? args : args.slice(1);
    const target = join(image.folder, posix.resolve(image.workdir, paths.at(-1) ?? ''));
    for (const path of paths.slice(0, -1)) {
      if (from === undefined) assertInContext(this.#context, path);
      const intoFolder = paths.at(-1)?.endsWith('/');
      const destination = intoFolder ? join(target, basename(path)) : target;
      mkdirSync(dirname(destination), { recursive: true });
      // Of another stage nothing is ever changed, so a second name for each file is as good as a copy.
      if (from !== undefined) link(join(from, path), destination);
      else cpSync(join(this.#context, path), destination, { recursive: true, verbatimSymlinks: true });
    }
  }

  async #run(image: Image, text: string): Promise<void> {
    if (aptPackages(text).length > 0) return;
    const [program = '', ...args] = text.split(/\s+/);
    const cwd = join(image.folder, image.workdir);
    if (program === 'npm' && args[0] === 'ci') {
      // npm of the machine, on the machine's Node.js: it finds its global configuration beside that.
      const path = (process.env['PATH'] ?? '').split(':').filter((entry) => !entry.endsWith('node_modules/.bin'));
      await promisify(execFile)(program, args, { cwd, env: { ...process.env, ...image.env, PATH: path.join(':') } });
    } else if (program === 'install' && args[0] === '--directory') {
      // The owner exists in the image alone; whoever runs the replay owns the folder here.
      mkdirSync(join(image.folder, args.at(-1) ?? ''), { recursive: true, mode: 0o700 });
    } else throw new Error(`the replay does not know RUN ${text}`);
  }
}

const link = (from: string, to: string): void =>
  void execFileSync('cp', ['--archive', '--link', '--no-target-directory', from, to]);

const words = (text: string): string[] => JSON.parse(text) as string[];

/** The build context must hold the file: .dockerignore here is `*` followed by what is let in again. */
function assertInContext(context: string, path: string): void {
  const lines = readFileSync(join(context, '.dockerignore'), 'utf8').split('\n');
  const rules = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (rules[0] !== '*' || !rules.slice(1).every((rule) => rule.startsWith('!')))
    throw new Error('.dockerignore is no longer a list of what is let in');
  if (!rules.includes(`!${path}`)) throw new Error(`.dockerignore keeps ${path} out`);
  if (!existsSync(join(context, path))) throw new Error(`there is no ${path} to copy`);
}
