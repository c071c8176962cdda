// HTML from templates: whatever is put into one is escaped, unless it came out of another.
'use strict';

class Html {
  constructor(text) {
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escape(value) {
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(escape).join('');
  if (value === null || value === undefined || value === false) return '';
  return String(value).replace(/[&<>"']/g, (c) => ENTITIES[c]);
}

function html(strings, ...values) {
  return new Html(strings.reduce((text, part, i) => text + escape(values[i - 1]) + part));
}

// Text by strangers for one line of the page: no control characters, none that turn the direction
// of writing, of bounded length.
function oneLine(text, length) {
  const clean = String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, ' ').replace(/\s+/g, ' ').trim();
  const letters = Array.from(clean.slice(0, 2 * length));
  return letters.length > length ? `${letters.slice(0, length - 1).join('')}…` : letters.join('');
}

function euros(cents) {
  return `€ ${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, '0')}`;
}

module.exports = { html, oneLine, euros };
