import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { errorKinds, type ApiErrorCode } from './errors.ts';
import { apiProblem } from './problems.ts';

const codes: Readonly<Record<string, ApiErrorCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'headers_too_large',
};

/** What is no HTTP never becomes a request, so the problem document is written on the bare connection. */
export function answerBareConnection(error: Readonly<{ code: string; message: string }>, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const code = codes[error.code] ?? 'malformed_request';
  const { status, title } = errorKinds[code];
  const detail = code === 'malformed_request' ? `this is no HTTP request: ${error.message}` : title;
  // There is no path and no request that could be named.
  const { instance: _path, request_id: _id, ...document } = apiProblem(code, detail).document('', '');
  const body = JSON.stringify(document);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n` +
      'Content-Type: application/problem+json; charset=utf-8\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\n` +
      'Connection: close\r\n\r\n' +
      body,
  );
}
