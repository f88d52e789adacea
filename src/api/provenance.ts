import { hash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { AuditOrigin, IdempotencyKey, Provenance } from '../leases/provenance.ts';
import type { Operation } from './operation.ts';
import { apiProblem } from './problems.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether the answer is one that was given before, under the same Idempotency-Key. */
    isReplay: boolean;
  }
}

/** Visible ASCII: what HTTP lets through unchanged, in a length that a key has. */
const keyShape = /^[\x21-\x7e]{1,255}$/;

/** Reads change nothing, and what is `repeatable` changes nothing more when it comes again: only the rest takes keys. */
export const takesKey = (method: string, { repeatable }: Operation): boolean =>
  method !== 'GET' && method !== 'HEAD' && repeatable !== true;

/** What the core is told of the request that a command comes from. A holder's request without a key costs nothing more. */
export const provenanceOf = (request: FastifyRequest): Provenance => ({
  requestId: request.id,
  key: keyOf(request),
  audit: auditOf(request),
});

/** Operators and routers answer for what they do; but for what is said again and again, and says only what is so. */
function auditOf(request: FastifyRequest): AuditOrigin | null {
  const { principal } = request;
  const { operation } = request.routeOptions.config;
  if (principal === null || operation === undefined || operation.repeatable) return null;
  const { token, name, role } = principal;
  if (role !== 'operator' && role !== 'router') return null;
  return {
    actor: { token, name, role },
    remoteAddress: remoteAddressOf(request),
    operation: operation.id,
    target: targetOf(request),
  };
}

/** Null over a Unix socket, where there is none, whatever Fastify's types say. */
export const remoteAddressOf = ({ ip }: Readonly<{ ip: string | undefined }>): string | null => ip ?? null;

/** What a request is about: its path without the version, and without the verb at its end. */
export function targetOf(request: FastifyRequest): string {
  const [, , ...pattern] = (request.routeOptions.url ?? '').split('/');
  const [, , ...path] = (request.url.split('?', 1)[0] ?? '').split('/');
  const last = pattern.findLastIndex((part) => part.startsWith(':'));
  return path
    .slice(0, Math.max(1, last + 1))
    .join('/')
    .slice(0, target_characters_max)
    .replaceAll(/[^!-~]/g, '?');
}

const target_characters_max = 300;

function keyOf(request: FastifyRequest): IdempotencyKey | null {
  const key = request.headers['idempotency-key'];
  const { operation } = request.routeOptions.config;
  if (key === undefined || request.principal === null || operation === undefined) return null;
  if (!takesKey(request.method, operation)) return null;
  if (typeof key !== 'string' || !keyShape.test(key)) throw badKey();
  return { token: request.principal.token, key, fingerprint: fingerprintOf(request) };
}

/** The operation and all that was said with it; the body as it was understood, so that spaces in it mean nothing. */
function fingerprintOf({ method, url, body }: FastifyRequest): string {
  // Numbers of an IPv6 prefix are bigint, which JSON has no form for.
  const textOf = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);
  const said = body === undefined ? '' : JSON.stringify(body, textOf);
  return hash('sha256', `${method} ${url}\n${said}`, 'base64url');
}

function badKey() {
  const path = 'header.idempotency-key';
  const message = 'must be 1 to 255 visible ASCII characters, once';
  return apiProblem('validation_failed', `${path}: ${message}`, { errors: [{ path, message }] });
}
