// The pages, each a function from data to HTML.
'use strict';

const { html, euros } = require('./html.js');
const { art } = require('./art.js');

function layout({ site, title, cartCount = 0, current = '' }, body) {
  const link = (href, text) => html`<a href="${href}"${current === href && html` aria-current="page"`}>${text}</a>`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title ? `${title} · ` : ''}${site.name}</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
<link rel="stylesheet" href="/theme.css">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<p class="banner">${site.theme.banner}</p>
<header class="top">
  <a class="brand" href="/"><span class="mark" aria-hidden="true"></span>${site.name}</a>
  <nav aria-label="Main">${link('/', 'Shop')}${link('/outbox', 'Outbox')}${link('/status', 'Status')}</nav>
  <a class="cart" href="/cart"${current === '/cart' && html` aria-current="page"`}>Cart <span class="count">${cartCount}</span></a>
</header>
<main id="main">${body}</main>
<footer class="foot">
  <p>${site.name} sells nothing. Payments are play money, and mails stay in the <a href="/outbox">outbox</a>.</p>
</footer>
${ribbon(site.preview)}
</body>
</html>`;
}

// Which change is being looked at. Discreet, but on every page.
function ribbon(preview) {
  if (preview.local) return html`<aside class="ribbon" id="preview" aria-label="What is running"><span class="dot"></span><b>local</b></aside>`;
  return html`<aside class="ribbon" id="preview" aria-label="What is running"><span class="dot"></span>
    <b>${preview.number ? `#${preview.number}` : 'Preview'}</b>
    ${preview.title && html`<span class="title"><bdi>${preview.title}</bdi></span>`}
    ${preview.branch && html`<span class="branch"><bdi>${preview.branch}</bdi></span>`}
    ${preview.commit && html`<code>${preview.commit}</code>`}</aside>`;
}

function card(product) {
  return html`<li class="card"><a href="/products/${product.sku}">${art(product)}
    <span class="card-text"><span class="kind">${product.category_name}</span>
    <span class="name">${product.name}</span><span class="tagline">${product.tagline}</span>
    <span class="price">${euros(product.price_cents)}</span></span></a></li>`;
}

function home(context, { categories, products, category, q }) {
  const plain = !category && !q;
  const shown = plain ? products.filter((p) => p.featured).slice(0, 3) : [];
  const chip = (slug, name) =>
    html`<a href="/${slug && `?category=${slug}`}#shelf"${(category || '') === slug && html` aria-current="true"`}>${name}</a>`;
  return layout({ ...context, current: '/' }, html`
    ${plain && html`<section class="hero">
      <div><h1>${context.site.theme.headline}</h1>
      <p>${products.length} small objects for desks, tables, walls and window-sills. Made slowly, described at length, wrapped in brown paper.</p>
      <a class="button" href="#shelf">See what there is</a></div>
      <div class="trio">${shown.map((p) => html`<a href="/products/${p.sku}" title="${p.name}">${art(p)}<span class="unseen">${p.name}</span></a>`)}</div>
    </section>`}
    <section id="shelf" aria-label="Products">
      <div class="filters"><nav class="chips" aria-label="Categories">${chip('', 'Everything')}${categories.map((c) => chip(c.slug, c.name))}</nav>
      <form action="/" role="search"><label class="unseen" for="q">Search</label><input id="q" name="q" type="search" placeholder="Search" maxlength="60" value="${q}"></form></div>
      ${q && html`<p class="found">${products.length} for “${q}”. <a href="/">Show everything</a></p>`}
      ${products.length === 0 && html`<p class="empty">Nothing like that here. It may be a thing for Wednesdays.</p>`}
      <ul class="grid">${products.map(card)}</ul>
    </section>`);
}

function product(context, item, related) {
  return layout({ ...context, title: item.name }, html`
    <article class="detail">${art(item)}
      <div><p class="kind"><a href="/?category=${item.category}#shelf">${item.category_name}</a></p>
        <h1>${item.name}</h1><p class="tagline">${item.tagline}</p><p>${item.description}</p>
        <p class="price">${euros(item.price_cents)}</p>
        <form method="post" action="/cart"><input type="hidden" name="sku" value="${item.sku}">
          <label for="amount">How many</label>
          <input id="amount" name="amount" type="number" min="1" max="20" value="1" required>
          <button class="button">Put into the cart</button></form>
        <p class="small">Leaves on Tuesday · free to send back · wrapped in paper</p></div>
    </article>
    ${related.length > 0 && html`<section aria-labelledby="beside"><h2 id="beside">On the same shelf</h2>
      <ul class="grid">${related.map(card)}</ul></section>`}`);
}

function cart(context, lines, problem) {
  const total = lines.reduce((sum, line) => sum + line.quantity * line.product.price_cents, 0);
  if (lines.length === 0) {
    return layout({ ...context, title: 'Cart', current: '/cart' }, html`<section class="sheet"><h1>Cart</h1>
      <p class="empty">Nothing in here yet. <a href="/">Have a look around</a>.</p></section>`);
  }
  const row = ({ product: item, quantity }) => html`<li>${art(item)}
    <div><a href="/products/${item.sku}">${item.name}</a><span class="small">${euros(item.price_cents)} each</span></div>
    <form method="post" action="/cart/change"><input type="hidden" name="sku" value="${item.sku}">
      <label class="unseen" for="n-${item.sku}">Quantity of ${item.name}</label>
      <input id="n-${item.sku}" name="amount" type="number" min="0" max="99" value="${quantity}"><button class="quiet">Change</button></form>
    <span class="price">${euros(item.price_cents * quantity)}</span></li>`;
  return layout({ ...context, title: 'Cart', current: '/cart' }, html`<div class="checkout">
    <section class="sheet"><h1>Cart</h1><ul class="lines">${lines.map(row)}</ul>
      <p class="total"><span>Total</span><b>${euros(total)}</b></p></section>
    <section class="sheet" aria-labelledby="checkout"><h2 id="checkout">Where to?</h2>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <form method="post" action="/orders">
        <label>Name<input name="name" required maxlength="80" autocomplete="name" value="Robin Tester"></label>
        <label>Mail address<input name="email" type="email" required maxlength="120" autocomplete="email" value="robin@example.com"></label>
        <fieldset><legend>Test card</legend>
          <label><input type="radio" name="test_card" value="approved" checked> One that works</label>
          <label><input type="radio" name="test_card" value="declined"> One that is declined</label></fieldset>
        <button class="button">Order and pay ${euros(total)}</button></form></section></div>`);
}

const PAID = { placed: 'Asking the bank …', paid: 'Paid', declined: 'The card was declined' };

// The steps of an order; also what /orders/<reference>/events sends when one has changed.
function progress(order, mails) {
  const settled = order.status !== 'placed';
  const answered = mails.some((m) => m.kind.startsWith('payment.'));
  const step = (state, text) => html`<li class="${state}">${text}</li>`;
  return html`<ol class="steps">${step('done', 'Order placed')}
    ${step(settled ? (order.status === 'paid' ? 'done' : 'failed') : 'busy', PAID[order.status])}
    ${answered ? step('done', html`Mail written: <a href="/outbox?reference=${order.reference}">read it</a>`)
    : step(settled ? 'busy' : 'waiting', 'Mail')}</ol>`;
}

const finished = (order, mails) => order.status !== 'placed' && mails.some((m) => m.kind.startsWith('payment.'));

function order(context, data, mails) {
  const live = !finished(data, mails);
  return layout({ ...context, title: `Order ${data.reference}` }, html`<section class="sheet receipt">
    <p class="kind">Order ${data.reference}</p><h1>Thank you, ${data.name.split(' ')[0]}.</h1>
    <div id="progress" aria-live="polite"${live && html` data-events="/orders/${data.reference}/events"`}>${progress(data, mails)}</div>
    <ul class="lines">${data.lines.map((l) => html`<li><div>${l.quantity} × ${l.name}</div><span class="price">${euros(l.quantity * l.price_cents)}</span></li>`)}</ul>
    <p class="total"><span>Total</span><b>${euros(data.total_cents)}</b></p>
    <p><a href="/">Back to the shop</a></p></section>
    ${live && html`<script src="/order.js"></script><noscript><p><a href="">Look again</a></p></noscript>`}`);
}

function outbox(context, mails, reference) {
  const item = (m) => html`<li><a href="/outbox/${m.id}"><span class="who"><bdi>${m.recipient}</bdi></span>
    <span class="subject">${m.subject}</span><span class="small">${m.preview}</span><time>${m.sent}</time></a></li>`;
  return layout({ ...context, title: 'Outbox', current: '/outbox' }, html`<section class="sheet"><h1>Outbox</h1>
    <p class="small">${reference ? html`Mails about order ${reference}. <a href="/outbox">Show all</a>` : 'What would have been sent. Nothing leaves this environment.'}</p>
    ${mails.length === 0 && html`<p class="empty">No mail yet.</p>`}<ul class="mails">${mails.map(item)}</ul></section>`);
}

function mail(context, letter) {
  return layout({ ...context, title: letter.subject, current: '/outbox' }, html`<article class="letter"><p><a href="/outbox">← Outbox</a></p>
    <dl><dt>To</dt><dd><bdi>${letter.recipient}</bdi></dd><dt>Subject</dt><dd>${letter.subject}</dd><dt>Written</dt><dd>${letter.sent}</dd></dl>
    <pre>${letter.body}</pre></article>`);
}

function status(context, services) {
  const item = (s) => html`<li class="${s.ok ? 'ok' : 'bad'}"><span class="dot"></span><div><b>${s.service}</b>
    <span class="small">${s.does}</span></div><span class="checks">${Object.entries(s.checks).map(([name, state]) => html`<span>${name}: ${state}</span>`)}</span></li>`;
  return layout({ ...context, title: 'Status', current: '/status' }, html`<section class="sheet"><h1>Status</h1>
    <p class="small">Six services, each asked a moment ago.</p><ul class="services">${services.map(item)}</ul></section>`);
}

function failure(context, problem) {
  const title = problem.status === 404 ? 'Not on our shelves' : 'Just a moment';
  return layout({ ...context, title }, html`<section class="sheet"><p class="kind">${problem.status}</p><h1>${title}</h1>
    <p>${problem.message}</p><p><a href="/">Back to the shop</a></p></section>`);
}

module.exports = { home, product, cart, order, progress, finished, outbox, mail, status, failure };
