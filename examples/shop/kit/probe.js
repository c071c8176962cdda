// The health check of the Node services: exits 0 if /healthz on this port of ours says 200.
'use strict';

const socket = require('node:net').connect(Number(process.argv[2]), '127.0.0.1');
let answer = '';
socket.setTimeout(3000, () => socket.destroy(new Error('timed out')));
socket.on('connect', () => socket.end('GET /healthz HTTP/1.0\r\n\r\n'));
socket.on('data', (part) => { if (answer.length < 65536) answer += part; });
socket.on('error', (error) => { answer = `no answer: ${error.message}`; });
socket.on('close', () => {
  if (answer.split(' ', 2)[1] === '200' && answer.startsWith('HTTP/')) return;
  console.error(answer.split('\r\n').pop().slice(0, 300) || 'an empty answer');
  process.exitCode = 1;
});
