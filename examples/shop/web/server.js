// web: the storefront. The one service that the public sees; it asks the others for everything.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const crypto = require('node:crypto');
const { Problem, serve, readBody, sendJson, call } = require('../kit/serve.js');
const { preview } = require('./preview.js');
const pages = require('./pages.js');

const env = process.env;
const CATALOG = env.CATALOG_URL || 'http://catalog:8081';
const CART = env.CART_URL || 'http://cart:8082';
const ORDERS = env.ORDERS_URL || 'http://orders:8083';
const PAYMENTS = env.PAYMENTS_URL || 'http://payments:8084';
const MAIL = env.MAIL_URL || 'http://mail:8085';
const SERVICES = [
  { name: 'catalog', url: CATALOG, does: 'what the shop sells' },
  { name: 'cart', url: CART, does: 'what somebody means to buy' },
  { name: 'orders', url: ORDERS, does: 'turns a cart into an order' },
  { name: 'payments', url: PAYMENTS, does: 'authorises play money' },
  { name: 'mail', url: MAIL, does: 'writes letters into the outbox' },
];
const FOLLOW_MS = 60000;

const file = (name) => fs.readFileSync(path.join(__dirname, name));
const theme = readTheme();
const site = { name: env.SHOP_NAME || 'Ordinary Tuesday', theme, preview: preview(env) };
const ASSETS = {
  '/style.css': ['text/css; charset=utf-8', file('style.css')],
  '/theme.css': ['text/css; charset=utf-8', Buffer.from(`:root { --accent: ${theme.accent}; }\n`)],
  '/order.js': ['text/javascript; charset=utf-8', file('order.js')],
  '/icon.svg': ['image/svg+xml', Buffer.from(String(file('icon.svg')).replace('#b4532a', theme.accent))],
};

function readTheme() {
  const { accent, headline, banner } = JSON.parse(file('theme.json'));
  if (!/^#[0-9a-f]{6}$/i.test(accent)) throw new Error('web/theme.json: "accent" must look like "#b4532a"');
  return { accent, headline: String(headline || ''), banner: String(banner || '') };
}

function send(response, status, page, headers = {}) {
  const body = Buffer.from(page.toString());
  response.writeHead(status, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',
    ...headers,
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

const redirect = (response, to, headers = {}) => {
  response.writeHead(303, { Location: to, 'Content-Length': 0, 'Cache-Control': 'no-store', ...headers });
  response.end();
};

function cartId(request) {
  const match = /(?:^|;\s*)shop_cart=([0-9a-f]{32})(?:;|$)/.exec(request.headers.cookie || '');
  return match ? match[1] : null;
}

async function cartItems(request) {
  const id = cartId(request);
  return id ? (await call('GET', `${CART}/carts/${id}`)).items : [];
}

// What every page needs. A cart out of reach is no reason to close the shop.
async function context(request) {
  const items = await cartItems(request).catch(() => []);
  return { site, cartCount: items.reduce((sum, item) => sum + item.quantity, 0) };
}

async function form(request) {
  const from = request.headers['sec-fetch-site'];
  if (from && from !== 'same-origin' && from !== 'none') throw new Problem(400, 'this form came from another site');
  return new URLSearchParams(await readBody(request));
}

async function home({ request, response, query }) {
  const category = query.get('category') || '';
  const q = (query.get('q') || '').slice(0, 60);
  const search = new URLSearchParams({ ...(category && { category }), ...(q && { q }) });
  const [ctx, { categories }, { products }] = await Promise.all([
    context(request), call('GET', `${CATALOG}/categories`), call('GET', `${CATALOG}/products?${search}`)]);
  send(response, 200, pages.home(ctx, { categories, products, category, q }));
}

async function product({ request, response }, sku) {
  const [ctx, item] = await Promise.all([context(request), call('GET', `${CATALOG}/products/${sku}`)]);
  const { products } = await call('GET', `${CATALOG}/products?category=${item.category}`);
  send(response, 200, pages.product(ctx, item, products.filter((p) => p.sku !== sku).slice(0, 3)));
}

async function showCart({ request, response }, problem) {
  const items = await cartItems(request);
  const skus = items.map((item) => item.sku).join(',');
  const { products } = items.length ? await call('GET', `${CATALOG}/products?skus=${skus}`) : { products: [] };
  const bySku = new Map(products.map((p) => [p.sku, p]));
  const lines = items.filter((item) => bySku.has(item.sku)).map((item) => ({ ...item, product: bySku.get(item.sku) }));
  const ctx = { site, cartCount: items.reduce((sum, item) => sum + item.quantity, 0) };
  send(response, problem ? problem.status : 200, pages.cart(ctx, lines, problem && problem.message));
}

async function addToCart({ request, response }) {
  const fields = await form(request);
  const id = cartId(request) || crypto.randomBytes(16).toString('hex');
  await call('POST', `${CART}/carts/${id}/items`, { sku: fields.get('sku'), add: Number(fields.get('amount')) });
  const secure = request.headers['x-forwarded-proto'] === 'https' ? '; Secure' : '';
  redirect(response, '/cart', { 'Set-Cookie': `shop_cart=${id}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax${secure}` });
}

async function changeCart({ request, response }) {
  const fields = await form(request);
  const id = cartId(request);
  if (id) await call('PUT', `${CART}/carts/${id}/items`, { sku: fields.get('sku'), quantity: Number(fields.get('amount')) });
  redirect(response, '/cart');
}

async function placeOrder({ request, response }) {
  const fields = await form(request);
  const wanted = Object.fromEntries(['name', 'email', 'test_card'].map((key) => [key, fields.get(key) || '']));
  try {
    // Placing an order may have to wait for a broker that is just waking up.
    const placed = await call('POST', `${ORDERS}/orders`, { cart: cartId(request) || '', ...wanted }, { timeout: 20000 });
    redirect(response, `/orders/${placed.reference}`);
  } catch (error) {
    if (!(error instanceof Problem) || ![400, 409].includes(error.status)) throw error;
    await showCart({ request, response }, error);
  }
}

const mailsAbout = async (reference) => (await call('GET', `${MAIL}/mails?reference=${reference}`)).mails;

async function order({ request, response }, reference) {
  const [ctx, data, mails] = await Promise.all([
    context(request), call('GET', `${ORDERS}/orders/${reference}`), mailsAbout(reference).catch(() => [])]);
  send(response, 200, pages.order(ctx, data, mails));
}

// Server-sent events until the order is through, or the browser or our patience has gone.
async function followOrder({ response }, reference) {
  await call('GET', `${ORDERS}/orders/${reference}`);
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' });
  const ends = Date.now() + FOLLOW_MS;
  let shown = '';
  while (!response.destroyed && Date.now() < ends) {
    try {
      const [data, mails] = await Promise.all([call('GET', `${ORDERS}/orders/${reference}`), mailsAbout(reference)]);
      const now = JSON.stringify(pages.progress(data, mails).toString());
      if (now !== shown) response.write(`event: progress\ndata: ${now}\n\n`);
      shown = now;
      if (pages.finished(data, mails)) break;
    } catch (error) {
      log(`following ${reference}: ${error.message}`);
    }
    await new Promise((resolve) => { setTimeout(resolve, 250); });
  }
  response.end('event: end\ndata: {}\n\n');
}

async function outbox({ request, response, query }) {
  const reference = /^[A-Z0-9-]{1,20}$/.test(query.get('reference') || '') ? query.get('reference') : '';
  const [ctx, { mails }] = await Promise.all([
    context(request), call('GET', `${MAIL}/mails${reference && `?reference=${reference}`}`)]);
  send(response, 200, pages.outbox(ctx, mails, reference));
}

async function mail({ request, response }, id) {
  const [ctx, letter] = await Promise.all([context(request), call('GET', `${MAIL}/mails/${id}`)]);
  send(response, 200, pages.mail(ctx, letter));
}

const healthOf = ({ name, url, does }) => call('GET', `${url}/healthz`, undefined, { accept: [503], timeout: 2000 })
  .catch((error) => ({ service: name, ok: false, checks: { [name]: error.message } }))
  .then((state) => ({ ...state, does }));

async function status({ request, response }) {
  const [ctx, others] = await Promise.all([context(request), Promise.all(SERVICES.map(healthOf))]);
  const self = { service: 'web', ok: true, does: 'shows this page', checks: { [`node ${process.version}`]: 'ok' } };
  send(response, 200, pages.status(ctx, [self, ...others]));
}

// Healthy means that a customer can get through, so all that this service asks must be healthy.
async function health({ response }) {
  const states = await Promise.all(SERVICES.filter((s) => s.name !== 'payments').map(healthOf));
  const ok = states.every((state) => state.ok);
  const why = (state) => Object.entries(state.checks).filter(([, said]) => said !== 'ok').map((pair) => pair.join(': ')).join(', ');
  const checks = Object.fromEntries(states.map((state) => [state.service, why(state) || 'ok']));
  sendJson(response, ok ? 200 : 503, { service: 'web', ok, checks });
}

const ROUTES = [
  ['GET', /^\/$/, home],
  ['GET', /^\/products\/([a-z][a-z0-9-]{0,63})$/, product],
  ['GET', /^\/cart$/, (exchange) => showCart(exchange)],
  ['POST', /^\/cart$/, addToCart],
  ['POST', /^\/cart\/change$/, changeCart],
  ['POST', /^\/orders$/, placeOrder],
  ['GET', /^\/orders\/([A-Z0-9-]{1,20})$/, order],
  ['GET', /^\/orders\/([A-Z0-9-]{1,20})\/events$/, followOrder],
  ['GET', /^\/outbox$/, outbox],
  ['GET', /^\/outbox\/([0-9]{1,12})$/, mail],
  ['GET', /^\/status$/, status],
  ['GET', /^\/healthz$/, health],
];

async function handle(request, response) {
  const url = request.url.split('?')[0];
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  if (method === 'GET' && Object.hasOwn(ASSETS, url)) {
    const [type, body] = ASSETS[url];
    response.writeHead(200, { 'Content-Type': type, 'Content-Length': body.length, 'Cache-Control': 'no-cache' });
    return response.end(request.method === 'HEAD' ? undefined : body);
  }
  const query = new URLSearchParams(request.url.slice(url.length + 1));
  for (const [wanted, pattern, handler] of ROUTES) {
    const match = pattern.exec(url);
    if (match && wanted === method) return handler({ request, response, query }, ...match.slice(1));
  }
  throw new Problem(404, 'There is no such page.');
}

const log = serve('web', Number(env.PORT || 8080), handle, (response, problem) =>
  send(response, problem.status, pages.failure({ site }, problem)));
