/** What stands at a position of the command line. Completion asks the server for what each of them may be. */
export const argumentWords = {
  pool: 'Name of the pool',
  machine: 'Name of the machine',
  holder: 'Name of the holder',
  slice: 'Identifier of the slice, like slice-42',
  session: 'Identifier of the session, like session-42',
  router: 'Name of the router',
  lease: 'Identifier of the lease, like lease-42',
  revocation: 'Identifier of the revocation, like revocation-42',
  token: 'Identifier of the token, like token-42',
  endpoint: 'Address, port and protocol: 198.51.100.10:9001/tcp, [2001:db8::1]:9001/udp',
} as const;

export type ArgumentName = keyof typeof argumentWords;

/** Filters that lists have in common. What the API says of them is what they look like, not what they do. */
export const filterWords: Readonly<Record<string, string>> = {
  pool: 'Only of this pool',
  machine: 'Only of this machine',
  holder: 'Only of this holder',
  session: 'Only of this session',
  slice: 'Only in this slice',
  address: 'Only on this address',
  protocol: 'Only of this protocol',
  state: 'Only in this state',
  role: 'Only of this role',
  route: 'Only those whose route stands like this',
};
