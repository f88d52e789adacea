// For the container's HEALTHCHECK: exit code 0 when the server on this host answers that it is well, else 1.
const url = `http://127.0.0.1:${process.env.FISHERY_PORT ?? 7480}/healthz`;
try {
  const answer = await fetch(url, { signal: AbortSignal.timeout(2_500) });
  if (!answer.ok) throw new Error(`it answered ${answer.status}`);
} catch (cause) {
  console.error(`${url}: ${cause.cause?.message ?? cause.message}`);
  process.exitCode = 1;
}
