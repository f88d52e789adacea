// For the container's HEALTHCHECK: exit code 0 when the server on this host answers that it is well, else 1.
import { get as getPlain } from 'node:http';
import { get as getTls } from 'node:https';

const { FISHERY_PORT: port = '7480', FISHERY_TLS_CERT_FILE: certificate } = process.env;
const url = `${certificate ? 'https' : 'http'}://127.0.0.1:${port}/healthz`;
const options = {
  signal: AbortSignal.timeout(2_500),
  // The certificate is for the name that clients use, and nothing secret is said here.
  rejectUnauthorized: false,
};
/** Where every client must show a certificate, to be asked for one is as good an answer as any. */
const wantsCertificate = (code) => /^ERR_SSL_\w*ALERT_(?:CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE)$/.test(code ?? '');

function fail(reason) {
  console.error(`${url}: ${reason}`);
  process.exitCode = 1;
}

(certificate ? getTls : getPlain)(url, options, (answer) => {
  answer.resume();
  if (answer.statusCode !== 200) fail(`it answered ${answer.statusCode}`);
}).on('error', (error) => {
  if (!wantsCertificate(error.code)) fail(error.message);
});
