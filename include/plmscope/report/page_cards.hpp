// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string_view>

// The second half of the page's script: the cards of the features, drawn a few at a time, with the
// sequences of their proteins; pointing, tapping and the arrow keys on residues; and the start.

namespace plmscope::inline PLMSCOPE_ABI {

namespace page_cards {

inline constexpr std::string_view text = R"js(
const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const digitOf = new Map([...DIGITS].map((c, i) => [c, i]));
const RESIDUES = {A: 'Ala', R: 'Arg', N: 'Asn', D: 'Asp', C: 'Cys', Q: 'Gln', E: 'Glu', G: 'Gly',
  H: 'His', I: 'Ile', L: 'Leu', K: 'Lys', M: 'Met', F: 'Phe', P: 'Pro', S: 'Ser', T: 'Thr',
  W: 'Trp', Y: 'Tyr', V: 'Val', U: 'Sec', O: 'Pyl', B: 'Asx', Z: 'Glx', J: 'Xle', X: 'Xaa'};
const CARDS = 6, PROTEINS = 3, BLOCK = 10;

// The inverse of sparse_track::encode: activations by 0-based position.
function decode(track, scale, length) {
  const out = new Float32Array(length);
  for (let at = 0, next = 0; at < track.length;) {
    let digit, unit = 1;
    do {
      digit = digitOf.get(track[at++]);
      next += (digit & 31) * unit;
      unit *= 32;
    } while (digit & 32);
    const level = digitOf.get(track[at]) * 64 + digitOf.get(track[at + 1]);
    at += 2;
    out[next - 1] = (level - 2048) / 2047 * scale;
  }
  return out;
}
const shade = (v, scale) => v < 0 ? 'neg' : v === 0 ? '' :
  'a' + (1 + Math.min(8, Math.floor(v / scale * 9)));

// The whole protein at a glance: bars are activation, the band below is the annotation.
function profile(view) {
  const {values, spans, scale} = view, length = values.length;
  const wide = Math.max(1, length / 350);
  let bars = '', first = -1, last = -1, active = 0;
  values.forEach((v, i) => {
    if (v === 0) return;
    if (first < 0) first = i + 1;
    last = i + 1;
    ++active;
    const height = Math.max(1, Math.abs(v) / scale * 18).toFixed(1);
    bars += 'M' + i + ' 19v-' + height + 'h' + wide.toFixed(2) + 'v' + height + 'z';
  });
  const label = active === 0 ? 'No activation' :
    'Activation along the sequence: ' + plural(active, 'residue', 'residues') + ' between ' +
    first + ' and ' + last;
  const drawing = svg('svg', {class: 'profile', viewBox: '0 0 ' + length + ' 26', role: 'img',
    preserveAspectRatio: 'none', 'aria-label': label},
    svg('rect', {class: 'base', x: 0, y: 19, width: length, height: 1}));
  for (const [begin, end] of spans) {
    drawing.append(svg('rect', {class: 'span', x: begin, y: 22, height: 3,
      width: Math.max(wide, end - begin)}));
  }
  if (bars) drawing.append(svg('path', {class: 'rise', d: bars}));
  return drawing;
}

const views = new WeakMap();  // sequence element -> what its residues mean

function block(view, index) {
  const begin = index * BLOCK, end = Math.min(begin + BLOCK, view.sequence.length);
  const run = el('span', {class: 'run'});
  for (let p = begin; p < end; ++p) {
    const name = (shade(view.values[p], view.scale) + (view.marked[p] ? ' u' : '')).trim();
    run.append(el('span', {class: name || null}, view.sequence[p]));
  }
  run.begin = begin;
  return el('span', {class: 'block'},
    el('span', {class: 'ruler', 'aria-hidden': 'true'}, String(end)), run);
}

// Blocks of ten. Stretches of at least four blocks with nothing to show fold into a button, with
// one block of context left on either side.
function drawSequence(view) {
  const box = el('div', {class: 'sequence', tabindex: 0, role: 'group',
    'aria-label': 'Sequence of ' + view.accession + '. Left and right arrows read residues, up ' +
      'and down go to the previous and next active residue.'});
  views.set(box, view);
  const blocks = Math.ceil(view.sequence.length / BLOCK);
  const quiet = [];
  for (let b = 0; b < blocks; ++b) {
    let still = true;
    for (let p = b * BLOCK; p < Math.min((b + 1) * BLOCK, view.sequence.length); ++p) {
      if (view.values[p] !== 0 || view.marked[p]) still = false;
    }
    quiet.push(still);
  }
  for (let b = 0; b < blocks;) {
    let end = b;
    while (end < blocks && quiet[end]) ++end;
    const from = b === 0 ? 0 : b + 1, to = end === blocks ? end : end - 1;
    if (to - from >= 4) {
      for (; b < from; ++b) box.append(block(view, b));
      const last = Math.min(to * BLOCK, view.sequence.length);
      const range = (from * BLOCK + 1) + '\u2013' + last;
      const fold = el('button', {type: 'button', class: 'fold',
        'aria-label': 'Show residues ' + range + ', without activation'}, '\u2026 ' + range);
      fold.addEventListener('click', event => {
        event.stopPropagation();
        const opened = [];
        for (let i = from; i < to; ++i) opened.push(block(view, i));
        fold.replaceWith(...opened);
        box.focus();
      });
      box.append(fold);
      b = to;
    }
    for (; b < end; ++b) box.append(block(view, b));
    if (b < blocks) box.append(block(view, b++));
  }
  return box;
}

function accessionLink(accession, query) {
  const found = query && accession.toLowerCase().includes(query);
  const shown = found ? el('mark', null, accession) : accession;
  // The UniProt rule for accessions; anything else stays plain text.
  const known = /^([OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d([A-Z][A-Z\d]{2}\d){1,2})$/.test(accession);
  return known ? el('a', {href: 'https://www.uniprot.org/uniprotkb/' + accession,
    rel: 'noopener noreferrer', target: '_blank'}, shown) : el('span', null, shown);
}

function drawProtein(feature, top, query) {
  const [accession, name, organism, split, sequence] = data.proteins[top[0]];
  const values = decode(top[1], feature.scale, sequence.length);
  const marked = new Uint8Array(sequence.length), spans = [];
  for (let i = 0; i < top[2].length; i += 2) {
    spans.push([top[2][i], top[2][i + 1]]);
    marked.fill(1, top[2][i], top[2][i + 1]);
  }
  const view = {accession, sequence, values, marked, spans, scale: feature.scale, feature};
  let peak = -1, active = 0;
  values.forEach((v, i) => {
    if (v !== 0) ++active;
    if (v !== 0 && (peak < 0 || v > values[peak])) peak = i;
  });
  const facts = [plural(sequence.length, 'residue', 'residues'), count(active) + NB + 'active',
    peak < 0 ? null : 'strongest ' + value(values[peak]) + ' at ' + sequence[peak] + (peak + 1),
    feature.name && spans.length === 0 ? 'no such annotation' : null, split || null];
  return el('div', {class: 'protein'},
    el('h4', null, accessionLink(accession, query), ' ', el('bdi', null, name), ' ',
      el('em', null, organism)),
    el('p', {class: 'small'}, facts.filter(Boolean).join(' \u00b7 ')),
    profile(view), drawSequence(view));
}

function drawHead(f) {
  const stats = el('dl', {class: 'stats'});
  const stat = (name, text) => stats.append(el('dt', null, name), el('dd', null, text));
  stat('maximal activation', value(f.max));
  stat('residues it fires on', share(f.residueShare));
  stat('proteins it fires in', share(f.proteinShare));
  if (f.row) {
    stat('threshold', value(f.row.threshold));
    stat('precision, recall', score(f.row.heldOut.precision) + ', ' + score(f.row.heldOut.recall));
  }
  const head = el('header', {class: 'card-head'},
    el('p', {class: 'feature-id'}, el('a', {href: '#f' + f.id}, 'Feature ' + f.id)),
    el('h3', {class: f.name ? null : 'unnamed'}, el('bdi', null, f.name || 'No concept fits')));
  if (f.row) {
    head.append(el('p', {class: passes(f.row) ? null : 'below'},
      meter(f.row.heldOut.f1, f.row.amino, f.row.neuron, 190)),
      el('p', {class: 'small'}, 'held-out F1; amino acids ' + score(f.row.amino) +
        ', best neuron ' + score(f.row.neuron)));
  } else if (f.name) {
    head.append(el('p', {class: 'small'}, 'held-out F1 ' + score(f.f1) +
      '; not the feature chosen for this concept'));
  }
  head.append(stats);
  const others = f.concepts.filter(c => c.name !== f.name);
  if (others.length > 0) {
    const line = c => el('li', null, el('bdi', null, c.name), el('b', null, score(c.f1)));
    const lines = list => el('ul', {class: 'others'}, ...list.map(line));
    head.append(el('p', {class: 'small'}, 'Also, with held-out F1'), lines(others.slice(0, 5)));
    if (others.length > 5) {
      head.append(el('details', {class: 'small'},
        el('summary', null, (others.length - 5) + ' more'), lines(others.slice(5))));
    }
  }
  if (f.scale > 0) {
    const scale = el('div', {class: 'scale', 'aria-hidden': 'true'});
    for (let i = 1; i <= 9; ++i) scale.append(el('i', {class: 'a' + i}));
    if (f.row && f.row.threshold !== null && f.row.threshold > 0 && f.row.threshold < f.scale) {
      const cut = el('span', {class: 'cut'});
      cut.style.left = (100 * f.row.threshold / f.scale) + '%';
      scale.append(cut);
    }
    head.append(scale, el('p', {class: 'small ends'}, el('span', null, '0'),
      el('span', null, 'activation'), el('span', null, value(f.scale))));
  }
  if (f.name) {
    head.append(el('p', {class: 'small'}, el('span', {class: 'key'}, 'underlined'),
      ': annotated as ', el('bdi', null, f.name)));
  }
  return head;
}

function drawCard(f, query) {
  // Proteins that the search names come first, otherwise the strongest.
  const late = i => query && data.proteins[f.top[i][0]][0].toLowerCase().includes(query) ? 0 : 1;
  const places = f.top.map((t, i) => i).sort((a, b) => late(a) - late(b) || a - b);
  const proteins = el('div', {class: 'proteins'});
  const draw = i => drawProtein(f, f.top[i], query);
  proteins.append(...places.slice(0, PROTEINS).map(draw));
  if (places.length > PROTEINS) {
    const rest = places.slice(PROTEINS);
    const more = el('button', {type: 'button'},
      'Show ' + plural(rest.length, 'more protein', 'more proteins'));
    const line = el('p', {class: 'protein-more'}, more);
    more.addEventListener('click', () => {
      const drawn = rest.map(draw);
      line.replaceWith(...drawn);
      drawn[0].querySelector('.sequence').focus({preventScroll: true});
    });
    proteins.append(line);
  }
  if (places.length === 0) {
    proteins.append(el('p', {class: 'nothing'}, f.max === 0 ?
      'Dead: this feature fired on no residue of these proteins.' :
      'No proteins were stored for this feature.'));
  }
  return el('article', {class: 'card', id: 'f' + f.id, tabindex: -1}, drawHead(f), proteins);
}

const orders = {
  f1: [f => f.f1, true], max: [f => f.max, true], rare: [f => f.residueShare || null, false],
  common: [f => f.residueShare, true], id: [f => f.id, false]
};
let listed = [], drawn = 0, pinned = null;

function drawMore() {
  const query = byId('q').value.trim().toLowerCase();
  byId('cards').append(...listed.slice(drawn, drawn + CARDS).map(f => drawCard(f, query)));
  drawn = Math.min(listed.length, drawn + CARDS);
  byId('more').parentNode.hidden = drawn === listed.length;
  byId('more').textContent = 'Show ' + Math.min(CARDS, listed.length - drawn) + ' more of ' +
    count(listed.length - drawn);
}

function drawFeatures() {
  const asked = search(), which = byId('which').value;
  const matching = features.filter(asked.feature);
  const wanted = f =>
    asked.id !== null || which === 'all' || (which === 'named') === (f.name !== '');
  listed = ordered(matching.filter(wanted), ...orders[byId('order').value]);
  const hidden = matching.length - listed.length;
  const total = listed.length;
  if (pinned) listed = [pinned, ...listed.filter(f => f !== pinned)];
  const caption = byId('features-caption');
  caption.replaceChildren(plural(total, 'feature', 'features') + ' of ' + count(features.length) +
    (hidden > 0 ? '; ' + count(hidden) + ' ' + (which === 'named' ? 'unnamed' : 'named') +
      ' not shown. ' : '. '));
  if (hidden > 0) {
    const all = el('button', {type: 'button'}, 'Show all');
    all.addEventListener('click', () => { byId('which').value = 'all'; drawFeatures(); });
    caption.append(all, '. ');
  }
  caption.append('Below each protein\u2019s name its whole length, then its residues, numbered ' +
    'from 1. One colour scale per feature, from 0 to its maximum. Point at a residue, tap it or ' +
    'use the arrow keys to read its activation.');
  byId('cards').replaceChildren();
  drawn = 0;
  drawMore();
  if (listed.length === 0) {
    byId('cards').append(el('p', {class: 'nothing'}, features.length === 0 ?
      'The report holds no features.' : 'No feature fits the search.'));
  }
  return total;
}

function drawAll() {
  pinned = null;
  const rows = drawTable(), cards = drawFeatures();
  byId('found').textContent = byId('q').value.trim() === '' ? '' :
    plural(rows, 'concept', 'concepts') + ', ' + plural(cards, 'feature', 'features');
}

// Brings the card that the address names (#f12) to the top of the list and to the reader.
function followAddress() {
  const id = /^#f(\d+)$/.exec(location.hash);
  const f = id && featureById.get(Number(id[1]));
  if (!f) return;
  if (!byId('f' + f.id)) {
    pinned = f;
    drawFeatures();
  }
  byId('f' + f.id).scrollIntoView();
  byId('f' + f.id).focus({preventScroll: true});
}
)js";

}  // namespace page_cards

}  // namespace plmscope
