// cart: what somebody means to buy, in Redis for a week.
//
// GET /carts/<id>      POST /carts/<id>/items {sku, add}      PUT /carts/<id>/items {sku, quantity}
// DELETE /carts/<id>
'use strict';

const { Problem, serve, readBody, sendJson } = require('../kit/serve.js');
const { Redis } = require('./redis.js');

const WEEK = 7 * 24 * 3600;
const MAX_ITEMS = 40;
const MAX_QUANTITY = 99;
const redis = new Redis(process.env.REDIS_URL || 'redis://redis:6379');

async function items(key) {
  const flat = await redis.command('HGETALL', key);
  const found = [];
  for (let i = 0; i < flat.length; i += 2) found.push({ sku: flat[i], quantity: Number(flat[i + 1]) });
  return found.sort((a, b) => (a.sku < b.sku ? -1 : 1));
}

async function change(key, request) {
  let wanted;
  try {
    wanted = JSON.parse(await readBody(request));
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(400, 'expected JSON');
  }
  const { sku, add, quantity } = wanted || {};
  const amount = request.method === 'POST' ? add : quantity;
  if (typeof sku !== 'string' || !/^[a-z][a-z0-9-]{0,63}$/.test(sku)) throw new Problem(400, 'that is not a product');
  if (!Number.isInteger(amount) || amount < 0 || amount > MAX_QUANTITY) throw new Problem(400, 'that is not an amount');
  const before = await items(key);
  const present = before.find((item) => item.sku === sku);
  if (!present && before.length >= MAX_ITEMS) throw new Problem(409, 'the cart is full');
  const after = request.method === 'POST' ? Math.min((present ? present.quantity : 0) + amount, MAX_QUANTITY) : amount;
  if (after === 0) await redis.command('HDEL', key, sku);
  else await redis.command('HSET', key, sku, after);
  await redis.command('EXPIRE', key, WEEK);
}

async function health(response) {
  let state = 'ok';
  try {
    await redis.command('PING');
  } catch (error) {
    state = error.message;
  }
  sendJson(response, state === 'ok' ? 200 : 503, { service: 'cart', ok: state === 'ok', checks: { redis: state } });
}

async function handle(request, response) {
  if (request.url === '/healthz') return health(response);
  const match = /^\/carts\/([A-Za-z0-9]{1,64})(\/items)?$/.exec(request.url);
  if (!match) throw new Problem(404, 'no such page');
  const key = `cart:${match[1]}`;
  try {
    if (match[2] && (request.method === 'POST' || request.method === 'PUT')) await change(key, request);
    else if (!match[2] && request.method === 'DELETE') await redis.command('DEL', key);
    else if (match[2] || request.method !== 'GET') throw new Problem(405, 'method not allowed');
    return sendJson(response, 200, { items: await items(key) });
  } catch (error) {
    if (error instanceof Problem) throw error;
    log(`Redis: ${error.message}`);
    throw new Problem(503, 'carts are out of reach for a moment');
  }
}

// Waits for Redis with growing pauses, so that /healthz turns good as soon as it can; after a
// minute the process ends and is started again.
async function connect() {
  const ends = Date.now() + 60000;
  for (let pause = 20; ; pause = Math.min(pause * 2, 500)) {
    try {
      return await redis.command('PING');
    } catch (error) {
      if (Date.now() > ends) {
        log(`giving up: ${error.message}`);
        process.exit(1);
      }
    }
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
}

const log = serve('cart', Number(process.env.PORT || 8082), handle, (response, problem) =>
  sendJson(response, problem.status, { error: problem.message }));
connect();
