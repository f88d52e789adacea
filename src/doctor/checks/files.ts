import { defineCheck, type Check, type Finding } from '../check.ts';
import type { FileFact } from '../facts.ts';

const octal = (mode: number): string => `0${mode.toString(8)}`;

/** A file or folder that root alone may touch in the ways of `forbidden` (permission bits). */
function ofRootAlone(file: FileFact, forbidden: number, severity: 'error' | 'fatal'): readonly Finding[] {
  if (file.uid !== 0)
    return [{ severity, what: `${file.path} belongs to user ${file.uid}`, mend: `chown root:root ${file.path}` }];
  if ((file.mode & forbidden) === 0) return [];
  const mode = file.mode & ~forbidden;
  const what = `${file.path} has mode ${octal(file.mode)}`;
  return [{ severity, what, mend: `chmod ${octal(mode)} ${file.path}`, fix: { do: 'mode', path: file.path, mode } }];
}

export const fileChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'token-file',
      title: "the agent's token can be read by others, or is missing",
      why: 'Whoever has it can report for this machine: call leases active, empty or refused, and keep its guard open.',
      remedy: 'Mode 0600, owner root.',
      worst: 'error',
      isFixable: true,
    },
    ['files', 'setup', 'agent'],
    ({ files, setup, agent }) => {
      const file = files.tokenFile;
      if (file === null) {
        const mend = `fishery tokens create --name ${setup.machine} --role agent --machine ${setup.machine}, and put its secret into that file`;
        const severity = agent.status === null ? 'warning' : 'error';
        return [{ severity, what: `${setup.tokenFile}: there is no such file`, mend }];
      }
      const empty: readonly Finding[] =
        file.bytes === 0
          ? [{ severity: 'error', what: `${file.path} is empty`, mend: 'put the secret of a token into it' }]
          : [];
      return [...ofRootAlone(file, 0o077, 'error'), ...empty];
    },
  ),
  defineCheck(
    {
      id: 'state-dir',
      title: 'others may write to what the agent remembers',
      why: '`fishery agent down` puts the host back as the record there says: whoever writes to it chooses sysctls and rules of this host.',
      remedy: 'Mode 0700, owner root.',
      worst: 'error',
      isFixable: true,
    },
    ['files'],
    ({ files }) => {
      const folder = files.stateDir;
      if (folder === null) return [];
      if (!folder.isDirectory)
        return [
          { severity: 'error', what: `${folder.path} is no folder`, mend: 'move it away, or choose another state_dir' },
        ];
      return ofRootAlone(folder, 0o022, 'error');
    },
  ),
  defineCheck(
    {
      id: 'run-dir',
      title: 'others may write to /run/fishery',
      why: "The agent's lock and the keeper's sockets are there: whoever writes to it can keep the agent from starting, or pass for its keeper.",
      remedy: 'Mode 0755 at most, owner root.',
      worst: 'error',
      isFixable: true,
    },
    ['files'],
    ({ files }) => (files.runDir === null ? [] : ofRootAlone(files.runDir, 0o022, 'error')),
  ),
];
