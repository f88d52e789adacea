import { json, problem, type Answer, type SeenRequest } from './scripted-server.ts';

const at = '2026-01-31T14:03:07.000000Z';

/** The server's part of one session with one lease; a test changes what it wants to be different. */
export class ScriptedSession {
  leaseState = 'active';
  leaseEnding: string | null = null;
  grant: Answer | undefined;
  keepalive: Answer | undefined;
  ended = 0;
  ttl_s = 0;
  address = '198.51.100.10';
  ports = { first: 9_000, last: 9_127 };

  readonly answer: Answer = (request, response) => this.#route(request)(request, response);

  #route({ method, path, body }: SeenRequest): Answer {
    if (method === 'POST' && path === '/v1/sessions') {
      this.ttl_s = (body as { ttl_s: number }).ttl_s;
      return json(this.#session(), 201);
    }
    if (path === '/v1/sessions/session-40/keepalive') return this.keepalive ?? json(this.#session());
    if (method === 'DELETE' && path === '/v1/sessions/session-40') {
      this.ended++;
      return json(this.#session());
    }
    if (method === 'POST' && path === '/v1/leases')
      return this.grant ?? json({ leases: [this.#lease()], revision: 42 }, 201);
    if (method === 'GET' && path === '/v1/leases') return json({ items: [this.#lease()], next: null });
    return problem(404, 'not_found');
  }

  #session() {
    const times = { expires_at: at, opened_at: at, ended_at: null };
    return {
      id: 'session-40',
      machine: 'm',
      holder: 'h',
      state: 'live',
      ending: null,
      ttl_s: this.ttl_s,
      ...times,
      revision: 40,
    };
  }

  #lease() {
    const place = { machine: 'm', holder: 'h', slice: 'slice-3', pool: 'p', address: this.address, protocol: 'tcp' };
    const kind = { ports: this.ports, mode: 'exclusive', binding: null };
    return {
      id: 'lease-42',
      token: '1.1.42',
      session: 'session-40',
      ...place,
      ...kind,
      state: this.leaseState,
      ending: this.leaseEnding,
    };
  }
}
