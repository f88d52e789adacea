import type { FastifyRequest } from 'fastify';
import type { Provenance } from '../leases/provenance.ts';

/** What the core is told of the request that a command comes from. */
export const provenanceOf = (request: FastifyRequest): Provenance => ({ requestId: request.id });
