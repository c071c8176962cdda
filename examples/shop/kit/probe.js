// The health check of the Node services: exits 0 once /healthz on this port of ours says 200.
//
// It asks again for up to four seconds before it says no. While a service starts, one patient check
// costs less than many hasty ones, and tells sooner.
'use strict';

const net = require('node:net');

const PATIENCE = 4000;

function ask(port, healthy, unhealthy) {
  const socket = net.connect(port, '127.0.0.1');
  let answer = '';
  socket.setTimeout(3000, () => socket.destroy(new Error('timed out')));
  socket.on('connect', () => socket.write('GET /healthz HTTP/1.0\r\n\r\n'));
  socket.on('data', (part) => { if (answer.length < 65536) answer += part; });
  socket.on('error', (error) => { answer = `no answer: ${error.message}`; });
  socket.on('close', () => {
    if (/^HTTP\/1\.. 200 /.test(answer)) healthy();
    else unhealthy(answer.split('\r\n').pop().slice(0, 300) || 'an empty answer');
  });
}

const ends = Date.now() + PATIENCE;

(function again(pause) {
  ask(Number(process.argv[2]), () => process.exit(0), (reason) => {
    if (Date.now() > ends) {
      console.error(reason);
      process.exit(1);
    }
    setTimeout(again, pause, Math.min(pause * 1.5, 100));
  });
}(10));
