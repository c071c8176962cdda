// What the two Node services share: a server with routes, and calls to the other services.
'use strict';

const http = require('node:http');

const MAX_BODY = 64 * 1024;
const MAX_ANSWER = 1024 * 1024;

// An answer other than success, with a text that a person may read.
class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Listens until SIGTERM. `handle(request, response)` may throw.
function serve(name, port, handle, fail) {
  const log = (text) => process.stderr.write(`${name}: ${text}\n`);
  const server = http.createServer(async (request, response) => {
    const started = process.hrtime.bigint();
    response.on('close', () => {
      if (request.url === '/healthz') return;
      const path = request.url.split('?')[0].slice(0, 200);
      log(`${request.method} ${path} ${response.statusCode} ${(process.hrtime.bigint() - started) / 1000000n} ms`);
    });
    try {
      await handle(request, response);
    } catch (error) {
      if (!(error instanceof Problem)) log(`${request.method} failed: ${error.stack}`);
      if (response.headersSent) response.destroy();
      else fail(response, error instanceof Problem ? error : new Problem(500, 'something went wrong here'));
    }
  });
  // Longer than proxies keep their connections, so that they are the ones to close.
  server.keepAliveTimeout = 75000;
  server.listen(port, '0.0.0.0', () => log(`listening on port ${port}`));
  process.on('SIGTERM', () => process.exit(0));
  return log;
}

// The request's body as text, of bounded size.
async function readBody(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BODY) throw new Problem(413, 'too large');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function sendJson(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

// Calls another service. Every call has a connection of its own: after hours in the freezer no
// kept one can be trusted. `accept` lists statuses besides 2xx whose answer is wanted as it is.
function call(method, url, value, { accept = [], timeout = 5000 } = {}) {
  return new Promise((resolve, reject) => {
    const body = value === undefined ? '' : JSON.stringify(value);
    const unreachable = (error) =>
      reject(new Problem(503, `${new URL(url).hostname} does not answer (${error.code || error.message})`));
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    const request = http.request(url, { method, headers, agent: false, timeout }, (answer) => {
      const parts = [];
      let size = 0;
      answer.on('data', (part) => {
        size += part.length;
        if (size > MAX_ANSWER) request.destroy(new Error('answer too large'));
        else parts.push(part);
      });
      answer.on('error', unreachable);
      answer.on('end', () => {
        let result;
        try {
          result = JSON.parse(Buffer.concat(parts).toString('utf8'));
        } catch (error) {
          return unreachable(error);
        }
        const ok = answer.statusCode < 300 || accept.includes(answer.statusCode);
        if (ok) return resolve(result);
        const known = [400, 404, 409].includes(answer.statusCode);
        return reject(new Problem(known ? answer.statusCode : 503, result.error || 'no reason given'));
      });
    });
    request.on('timeout', () => request.destroy(new Error('timed out')));
    request.on('error', unreachable);
    request.end(body);
  });
}

module.exports = { Problem, serve, readBody, sendJson, call };
