// A client for the part of Redis that a cart needs: one connection, commands in a pipeline.
'use strict';

const net = require('node:net');

const MAX_WAITING = 1000;
const TIMEOUT = 3000;

class Redis {
  constructor(url) {
    this.target = new URL(url);
    this.waiting = [];
    this.buffer = Buffer.alloc(0);
    this.socket = null;
  }

  // Sends a command and returns its answer. A broken connection fails the commands that were
  // under way, since they may have been carried out; the next command connects again.
  command(...words) {
    return new Promise((resolve, reject) => {
      if (this.waiting.length >= MAX_WAITING) return reject(new Error('too many commands are waiting'));
      const timer = setTimeout(() => this.drop(new Error('Redis does not answer')), TIMEOUT);
      this.waiting.push({ resolve, reject, timer });
      this.connection().write(encode(words));
      return undefined;
    });
  }

  connection() {
    if (this.socket) return this.socket;
    const socket = net.connect(Number(this.target.port || 6379), this.target.hostname);
    socket.setNoDelay(true);
    socket.on('data', (part) => this.receive(part));
    socket.on('error', (error) => { if (socket === this.socket) this.drop(error); });
    socket.on('close', () => { if (socket === this.socket) this.drop(new Error('Redis closed the connection')); });
    this.socket = socket;
    return socket;
  }

  receive(part) {
    this.buffer = this.buffer.length ? Buffer.concat([this.buffer, part]) : part;
    let parsed;
    while (this.waiting.length && (parsed = parse(this.buffer, 0))) {
      this.buffer = this.buffer.subarray(parsed.end);
      const { resolve, reject, timer } = this.waiting.shift();
      clearTimeout(timer);
      if (parsed.value instanceof Error) reject(parsed.value);
      else resolve(parsed.value);
    }
  }

  drop(error) {
    const { socket, waiting } = this;
    this.socket = null;
    this.waiting = [];
    this.buffer = Buffer.alloc(0);
    if (socket) socket.destroy();
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(error);
    }
  }
}

function encode(words) {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join('')}`;
}

// One value of the Redis protocol from `start`, or null as long as it is incomplete.
function parse(buffer, start) {
  const eol = buffer.indexOf('\r\n', start);
  if (eol < 0) return null;
  const text = buffer.toString('utf8', start + 1, eol);
  const next = eol + 2;
  switch (String.fromCharCode(buffer[start])) {
    case '+': return { value: text, end: next };
    case '-': return { value: new Error(text), end: next };
    case ':': return { value: Number(text), end: next };
    case '$': {
      const length = Number(text);
      if (length < 0) return { value: null, end: next };
      if (buffer.length < next + length + 2) return null;
      return { value: buffer.toString('utf8', next, next + length), end: next + length + 2 };
    }
    case '*': {
      const values = [];
      let end = next;
      for (let left = Number(text); left > 0; left -= 1) {
        const item = parse(buffer, end);
        if (!item) return null;
        values.push(item.value);
        end = item.end;
      }
      return { value: values, end };
    }
    default: return { value: new Error('an answer that is not of the Redis protocol'), end: buffer.length };
  }
}

module.exports = { Redis };
