// Pictures of products, drawn from their SKU: the category chooses the motif, a hash of the SKU
// chooses colours and proportions. The same product always looks the same, and no image file is needed.
'use strict';

const { html } = require('./html.js');

// back: the wall; glow: the disc behind; main, dark, light: the thing itself.
const PALETTES = [
  { back: '#f3e3d3', glow: '#f8efe4', main: '#c8643c', dark: '#8f3f22', light: '#f2b48c', leaf: '#5d7a55' },
  { back: '#dfe7e1', glow: '#eef3ee', main: '#4d7a68', dark: '#2d5245', light: '#a9c9b5', leaf: '#3f6b4f' },
  { back: '#e2e4ef', glow: '#f0f1f8', main: '#4f5f9c', dark: '#303b6e', light: '#b4bee6', leaf: '#55806a' },
  { back: '#f5e8c8', glow: '#fbf4e0', main: '#d99a2b', dark: '#97661a', light: '#f6d68c', leaf: '#66804a' },
  { back: '#f1dede', glow: '#f9eded', main: '#b5566a', dark: '#7d3145', light: '#eab3bd', leaf: '#5a7d5e' },
  { back: '#dce8ee', glow: '#edf4f7', main: '#3f7f9c', dark: '#23546b', light: '#a5d0e0', leaf: '#4a7c62' },
  { back: '#e9e2da', glow: '#f5f0ea', main: '#7a6552', dark: '#4a3b2e', light: '#cdb9a3', leaf: '#69804f' },
];

// Any number would do; with this one neighbours on a shelf hardly ever look alike.
const START = 160606;

// A small repeatable generator: an FNV-1a hash of the text, stirred anew for each throw.
function dice(text) {
  let state = START;
  for (const c of text) state = Math.imul(state ^ c.codePointAt(0), 16777619);
  return (low, high) => {
    state = (state + 0x9e3779b9) | 0;
    let t = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    t = Math.imul(t ^ (t >>> 13), 0xc2b2ae35);
    return low + (((t ^ (t >>> 16)) >>> 0) % (high - low + 1));
  };
}

function notebook(c, roll) {
  const width = roll(104, 132), height = roll(150, 172), x = 160 - width / 2, y = 246 - height;
  const pattern = roll(0, 3);
  const middle = x + 16 + (width - 16) / 2;
  const cover = [
    html`<rect x="${middle - 40}" y="${y + 30}" width="60" height="34" rx="3" fill="${c.glow}"/>
      <path d="M${middle - 28} ${y + 43}h36M${middle - 20} ${y + 52}h20" stroke="${c.dark}" stroke-width="3" stroke-linecap="round"/>`,
    [0, 1, 2, 3, 4].map((i) => html`<path d="M${x + 16} ${y + 24 + i * 26}h${width - 16}" stroke="${c.light}" stroke-width="5"/>`),
    [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) =>
      html`<circle cx="${middle + (i % 3) * 23 - 34}" cy="${y + 38 + Math.floor(i / 3) * 38}" r="6" fill="${c.light}"/>`),
    html`<circle cx="${middle - 6}" cy="${y + height / 2}" r="30" fill="${c.light}"/>
      <path d="M${middle - 36} ${y + height / 2}a30 30 0 0 0 60 0z" fill="${c.glow}"/>`,
  ][pattern];
  return html`<g transform="rotate(${roll(-7, 5)} 160 200)">
    <rect x="${x + 7}" y="${y + 7}" width="${width}" height="${height}" rx="6" fill="#fffaf2"/>
    <path d="M${x + width + 3} ${y + 14}v${height - 12}" stroke="${c.dark}" stroke-opacity=".25" stroke-width="2"/>
    <rect x="${x}" y="${y}" width="${width}" height="${height}" rx="6" fill="${c.main}"/>
    <path d="M${x + 6} ${y}h10v${height}h-10a6 6 0 0 1-6-6v-${height - 12}a6 6 0 0 1 6-6z" fill="${c.dark}"/>
    ${cover}
    <path d="M${x + width - 22} ${y}v${height}" stroke="${c.dark}" stroke-width="5"/>
    <path d="M${x + 34} ${y + height}v26l7-7 7 7v-26z" fill="${c.light}"/></g>`;
}

function mug(c, roll) {
  const width = roll(96, 138), height = roll(88, 118), x = 152 - width / 2, y = 246 - height, band = roll(0, 2);
  const steam = (dx) => html`<path d="M${152 + dx} ${y - 18}c-12-14 12-22 0-38s8-20 2-30" fill="none" stroke="${c.dark}" stroke-opacity=".28" stroke-width="5" stroke-linecap="round"/>`;
  return html`${steam(-20)}${steam(14)}
    <path d="M${x + width - 6} ${y + 22}h14a28 28 0 0 1 0 56h-16" fill="none" stroke="${c.dark}" stroke-width="13" stroke-linecap="round"/>
    <path d="M${x} ${y}h${width}l-5 ${height - 22}q-2 22-24 22h-${width - 58}q-22 0-24-22z" fill="${c.main}"/>
    ${band === 0 && html`<path d="M${x + 2} ${y + height * 0.52}h${width - 4}l-4 ${height * 0.26}q-2 22-24 22h-${width - 56}q-22 0-24-22z" fill="${c.light}"/>`}
    ${band === 1 && html`<path d="M${x + 1} ${y + 26}h${width - 2}M${x + 2} ${y + 40}h${width - 4}" stroke="${c.light}" stroke-width="6"/>`}
    ${band === 2 && [0, 1, 2, 3, 4].map((i) => html`<circle cx="${x + 18 + (i * (width - 36)) / 4}" cy="${y + 42 + (i % 2) * 22}" r="6.500" fill="${c.light}"/>`)}
    <ellipse cx="152" cy="${y}" rx="${width / 2}" ry="12" fill="${c.dark}"/>
    <ellipse cx="152" cy="${y + 3}" rx="${width / 2 - 8}" ry="8" fill="#5b3a26"/>
    <path d="M${x + 16} ${y + 26}l3 ${height - 60}" stroke="#fff" stroke-opacity=".35" stroke-width="6" stroke-linecap="round"/>`;
}

function lamp(c, roll) {
  const bent = roll(0, 1), shade = roll(52, 66), top = roll(82, 100);
  const glow = (x, y) => html`<path d="M${x - shade + 8} ${y}l-30 ${246 - y}h${2 * shade + 44}l-30-${246 - y}z" fill="#ffe9a8" fill-opacity=".5"/>`;
  if (bent) {
    return html`${glow(122, top + 62)}
      <rect x="176" y="236" width="76" height="12" rx="6" fill="${c.dark}"/>
      <path d="M214 238L232 150L${134} ${top + 6}" fill="none" stroke="${c.dark}" stroke-width="8" stroke-linejoin="round" stroke-linecap="round"/>
      <circle cx="232" cy="150" r="9" fill="${c.light}"/>
      <circle cx="122" cy="${top + 62}" r="15" fill="#fff3c4"/>
      <path d="M122 ${top}q34 4 ${shade - 6} 62h-${2 * shade - 12}q${shade - 40}-58 ${shade - 6}-62z" fill="${c.main}"/>
      <rect x="110" y="${top - 10}" width="24" height="16" rx="5" fill="${c.dark}"/>`;
  }
  return html`${glow(160, top + 74)}
    <rect x="118" y="234" width="84" height="14" rx="7" fill="${c.dark}"/>
    <path d="M160 ${top + 60}V238" stroke="${c.dark}" stroke-width="9"/>
    <ellipse cx="160" cy="${roll(196, 214)}" rx="${roll(14, 26)}" ry="22" fill="${c.dark}"/>
    <path d="M${160 - shade / 1.8} ${top}h${shade / 0.9}l${shade / 2.25} 74h-${2 * shade}z" fill="${c.main}"/>
    <path d="M${160 - shade} ${top + 74}h${2 * shade}l-4-10h-${2 * shade - 8}z" fill="${c.light}"/>`;
}

function plant(c, roll) {
  const pot = roll(70, 96), kind = roll(0, 2), leaves = roll(6, 9);
  const grow = (i) => {
    const angle = (i / (leaves - 1) - 0.5) * [150, 96, 190][kind];
    const size = [roll(78, 100), roll(96, 124), roll(48, 66)][kind];
    const breadth = [13, 17, 19][kind];
    const tint = i % 2 ? c.leaf : '#7f9f6b';
    return html`<g transform="rotate(${angle} 160 186)">
      <path d="M160 188q-${breadth * 1.6}-${size * 0.55} 0-${size}q${breadth * 1.6} ${size * 0.45} 0 ${size}z" fill="${tint}"/>
      <path d="M160 186v-${size * 0.82}" stroke="#fff" stroke-opacity=".28" stroke-width="2"/></g>`;
  };
  return html`${Array.from({ length: leaves }, (_, i) => grow(i))}
    <path d="M${160 - pot / 2} 186h${pot}l-9 52q-2 10-12 10h-${pot - 42}q-10 0-12-10z" fill="${c.main}"/>
    <rect x="${154 - pot / 2}" y="176" width="${pot + 12}" height="18" rx="5" fill="${c.dark}"/>
    <path d="M${172 - pot / 2} 206l5 26" stroke="#fff" stroke-opacity=".35" stroke-width="5" stroke-linecap="round"/>`;
}

function print(c, roll, sku) {
  const sun = roll(112, 204), height = roll(110, 134), hill = roll(-14, 22);
  const id = `clip-${sku}`;
  const scenes = [
    html`<circle cx="${sun}" cy="${height}" r="26" fill="${c.main}"/>
      <path d="M80 ${200 + hill / 2}q44-52 84-16t84-22v90H80z" fill="${c.light}"/><path d="M80 ${222 - hill / 2}q60-44 100-6t80-10v60H80z" fill="${c.dark}"/>`,
    html`<rect x="80" y="176" width="170" height="80" fill="${c.light}"/><circle cx="${sun}" cy="${height}" r="20" fill="#f3c14b"/>
      <path d="M${sun > 158 ? 144 : 184} 108v64h-34z" fill="${c.main}"/><path d="M${sun > 158 ? 106 : 146} 178h64q-8 20-22 20h-20q-14 0-22-20z" fill="${c.dark}"/>
      <path d="M98 214h40M160 208h48M130 226h44" stroke="#fff" stroke-opacity=".6" stroke-width="4" stroke-linecap="round"/>`,
    html`<path d="M106 92h60a60 60 0 0 1-60 60z" fill="${c.main}"/><circle cx="186" cy="${height + 4}" r="27" fill="${c.dark}"/>
      <rect x="112" y="172" width="42" height="60" rx="21" fill="${c.light}"/><path d="M166 232a38 38 0 0 1 52-36v36z" fill="${c.main}"/>`,
    [0, 1, 2].map((i) => html`<circle cx="${118 + i * 42}" cy="${118 + ((i * 53 + sun) % 88)}" r="${17 + ((i * 7 + sun) % 11)}" fill="${i === 1 ? c.main : c.dark}"/>
      <circle cx="${126 + i * 42}" cy="${112 + ((i * 53 + sun) % 88)}" r="${15 + ((i * 7 + sun) % 9)}" fill="${c.glow}"/>`),
  ];
  const scene = { 'wall-hills': 0, 'wall-harbour': 1, 'wall-noon': 2, 'wall-moons': 3 }[sku];
  return html`<rect x="86" y="66" width="148" height="184" rx="3" fill="${c.dark}"/><rect x="93" y="73" width="134" height="170" fill="#fffaf2"/>
    <clipPath id="${id}"><rect x="104" y="86" width="112" height="144"/></clipPath><rect x="104" y="86" width="112" height="144" fill="${c.glow}"/>
    <g clip-path="url(#${id})">${scenes[scene === undefined ? roll(0, 3) : scene]}</g>`;
}

function clock(c, roll) {
  const radius = roll(66, 78), hour = roll(0, 11) * 30, minute = roll(0, 11) * 30, bells = roll(0, 2) === 0, y = 164;
  const mark = (i) => html`<path d="M160 ${y - radius + 17}v${i % 3 ? 5 : 11}" stroke="${c.dark}" stroke-width="${i % 3 ? 3 : 5}" stroke-linecap="round" transform="rotate(${i * 30} 160 ${y})"/>`;
  return html`${bells && html`<circle cx="${160 - radius * 0.7}" cy="${y - radius * 0.86}" r="19" fill="${c.light}"/><circle cx="${160 + radius * 0.7}" cy="${y - radius * 0.86}" r="19" fill="${c.light}"/>`}
    <path d="M${160 - radius * 0.6} ${y + radius * 0.7}L${160 - radius * 0.82} 248M${160 + radius * 0.6} ${y + radius * 0.7}L${160 + radius * 0.82} 248" stroke="${c.dark}" stroke-width="10" stroke-linecap="round"/>
    <circle cx="160" cy="${y}" r="${radius}" fill="${c.main}"/><circle cx="160" cy="${y}" r="${radius - 10}" fill="#fffaf2"/>
    ${Array.from({ length: 12 }, (_, i) => mark(i))}
    <path d="M160 ${y}v-${radius * 0.42}" stroke="${c.dark}" stroke-width="7" stroke-linecap="round" transform="rotate(${hour + minute / 12} 160 ${y})"/>
    <path d="M160 ${y}v-${radius * 0.64}" stroke="${c.main}" stroke-width="5" stroke-linecap="round" transform="rotate(${minute} 160 ${y})"/>
    <circle cx="160" cy="${y}" r="6" fill="${c.dark}"/>`;
}

const MOTIFS = { paper: notebook, table: mug, light: lamp, green: plant, wall: print, time: clock };

// An SVG of the product. It says nothing that the text beside it does not, so it is hidden from
// screen readers.
function art(product) {
  const roll = dice(product.sku);
  const colours = PALETTES[roll(0, PALETTES.length - 1)];
  const motif = MOTIFS[product.category] || print;
  return html`<svg class="art" viewBox="0 0 320 320" preserveAspectRatio="xMidYMid slice" aria-hidden="true" focusable="false">
    <rect width="320" height="320" fill="${colours.back}"/>
    <circle cx="160" cy="160" r="${roll(112, 128)}" fill="${colours.glow}"/>
    <path d="M0 246h320v74H0z" fill="${colours.light}" fill-opacity=".38"/>
    <ellipse cx="164" cy="252" rx="96" ry="9" fill="${colours.dark}" fill-opacity=".16"/>
    ${motif(colours, roll, product.sku)}</svg>`;
}

module.exports = { art };
