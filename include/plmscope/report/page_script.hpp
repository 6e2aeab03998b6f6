// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string_view>

// The first half of the page's script: reading the data (the order of fields is written in
// page_data.hpp), the summary, the table of concepts and the search. Text enters the document
// through text nodes and attributes only.

namespace plmscope::inline PLMSCOPE_ABI {

namespace page_script {

inline constexpr std::string_view text = R"js(
'use strict';
const byId = id => document.getElementById(id);
const data = JSON.parse(byId('data').textContent);

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter(c => c !== null && c !== undefined));
  return node;
}
const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

const NB = '\u00a0';
const score = v => v === null ? 'n/a' : v.toFixed(2);
const count = n => n.toLocaleString('en-US');
function value(v) {
  if (v === null) return 'n/a';
  const size = Math.abs(v);
  return size >= 0.01 && size < 1000 ? v.toPrecision(3) : String(Number(v.toPrecision(3)));
}
const plural = (n, one, many) => count(n) + NB + (n === 1 ? one : many);
function share(v) {
  if (v === null) return 'n/a';
  if (v > 0 && v < 0.0005) return '<' + NB + '0.1' + NB + '%';
  return (100 * v).toFixed(v < 0.1 ? 1 : 0) + NB + '%';
}

const concepts = data.concepts.map(r => ({
  name: data.names[r[0]], kind: r[1], feature: r[2], threshold: r[3],
  validation: {f1: r[4], precision: r[5], recall: r[6]},
  heldOut: {f1: r[7], precision: r[8], recall: r[9]},
  positives: r[10], instances: r[11], amino: r[12], neuron: r[13]
}));
const features = data.features.map(r => {
  const f = {id: r[0], name: r[1] < 0 ? '' : data.names[r[1]], max: r[2], residueShare: r[3],
    proteinShare: r[4], scale: r[5], top: r[7], words: null,
    concepts: r[6].map(c => ({name: data.names[c[0]], f1: c[1], validation: c[2]}))};
  f.row = concepts.find(c => c.feature === f.id && c.name === f.name) || null;
  const own = f.concepts.find(c => c.name === f.name);
  f.f1 = f.row ? f.row.heldOut.f1 : own ? own.f1 : null;
  return f;
});
const featureById = new Map(features.map(f => [f.id, f]));
const passes = c => c.heldOut.f1 !== null && c.amino !== null && c.neuron !== null &&
  c.heldOut.f1 > c.amino && c.heldOut.f1 > c.neuron;

// A score as a bar from 0 to 1; the baselines point at it: amino acids from above, the neuron from
// below.
function meter(f1, amino, neuron, width) {
  const at = v => (3 + Math.min(1, Math.max(0, v)) * (width - 6)).toFixed(1);
  const drawing = svg('svg', {width, height: 19, viewBox: '0 0 ' + width + ' 19', role: 'img',
    'aria-label': 'held-out F1 ' + score(f1) + ', amino acids ' + score(amino) +
      ', best neuron ' + score(neuron)},
    svg('rect', {class: 'meter-track', x: 3, y: 6, width: width - 6, height: 7}));
  if (f1 !== null) {
    drawing.append(svg('rect', {class: 'meter-fill', x: 3, y: 6, height: 7,
      width: (at(f1) - 3).toFixed(1)}));
  }
  const mark = (v, d) => v === null ? null :
    svg('path', {class: 'meter-mark', d, transform: 'translate(' + at(v) + ' 0)'});
  const marks = [mark(amino, 'M-3.4 1H3.4L.7 6.5V13H-.7V6.5Z'),
    mark(neuron, 'M-3.4 18H3.4L.7 12.5V6H-.7V12.5Z')];
  drawing.append(...marks.filter(Boolean));
  return el('span', {class: 'meter'}, drawing, score(f1));
}
const glyph = d => svg('svg', {width: 10, height: 16, viewBox: '-5 1 10 16', 'aria-hidden': 'true'},
  svg('path', {class: 'meter-mark', d}));

function drawSummary() {
  const {model, sae, dataset} = data;
  const title = data.title || 'Feature report';
  document.title = title;
  byId('title').textContent = title;
  const best = concepts.filter(passes).length;
  byId('lede').textContent =
    'A sparse autoencoder of ' + plural(sae.features, 'feature', 'features') + ' was trained on ' +
    'the residues of proteins as ' + (model.name || 'a protein language model') + ' sees them' +
    (model.site ? ' at ' + model.site : '') + ', and its features were compared with the ' +
    'annotation of ' + plural(dataset.proteins, 'protein', 'proteins') + '. ' +
    (concepts.length === 0 ? 'No concept was scored.' :
      'For ' + count(best) + ' of ' + plural(concepts.length, 'concept', 'concepts') +
      ' a single feature scores above both baselines on held-out proteins.');
  const fact = (name, ...lines) => el('div', null, el('dt', null, name),
    ...lines.filter(Boolean).map(line => el('dd', null, line)));
  byId('facts').append(
    fact('Model', model.name || 'n/a', model.description, model.site && 'read at ' + model.site),
    fact('Sparse autoencoder', (sae.sparsifier || 'n/a') + (sae.k ? ', k = ' + count(sae.k) : ''),
      plural(sae.features, 'feature', 'features') + ' on width ' + count(sae.d_model),
      'trained on ' + plural(sae.training_rows, 'residue', 'residues')),
    fact('Fidelity', sae.fvu === null ? 'n/a' : value(sae.fvu) + ' of variance unexplained',
      sae.l0 !== null && value(sae.l0) + ' features active per residue (L0)',
      sae.dead_share !== null && share(sae.dead_share) + ' of features never fire'),
    fact('Proteins', dataset.name || 'n/a',
      plural(dataset.proteins, 'protein', 'proteins') + ', ' +
        plural(dataset.residues, 'residue', 'residues'),
      ...dataset.splits.map(s => s[0] + ': ' + plural(s[1], 'protein', 'proteins') + ', ' +
        plural(s[2], 'residue', 'residues'))));

  const note = (text, warning) => byId('notes').append(
    el('li', {class: warning ? 'warning' : null}, text));
  if (model.bundled) {
    note((model.name || 'The model') + ' is a small model trained for plmscope itself, far ' +
      'weaker than the smallest published ESM-2. Read this page as a demonstration of the ' +
      'method; for results, run it on published weights.');
  }
  if (dataset.split_by_homology) {
    note('The proteins are split by homology' +
      (dataset.split_method ? ' (' + dataset.split_method + ')' : '') +
      ': relatives stay on one side, so a held-out score is not the memory of a family.');
  } else {
    note('The proteins are not split by homology' +
      (dataset.split_method ? ' (' + dataset.split_method + ')' : '') +
      ': relatives may stand on both sides, and the scores may flatter.', true);
  }
  note('The feature of a concept and its threshold are chosen on validation proteins. The scores ' +
    'are those of that choice on held-out proteins, which had no part in it.');
  note('Every score stands beside two baselines on the same held-out proteins: what the identity ' +
    'of the amino acid alone reaches, and what the best single neuron of the same layer reaches. ' +
    'A feature that does not pass both has shown nothing of its own.');
  note('Precision counts residues. Recall counts residues, or annotated instances where it says ' +
    '\u201cper domain\u201d. Annotation is incomplete: a residue without one may still belong to ' +
    'the concept.');
  data.notes.forEach(text => note(text));
  byId('colophon').textContent = (data.made_by ? data.made_by + '. ' : '') +
    'This file is complete in itself and loads nothing from the network.';
}

const columns = [
  {key: 'name', label: 'Concept', get: c => c.name.toLowerCase()},
  {key: 'feature', label: 'Feature', get: c => c.feature},
  {key: 'f1', label: 'F1', group: 'Held-out proteins', get: c => c.heldOut.f1},
  {key: 'precision', label: 'precision', group: 'Held-out proteins', get: c => c.heldOut.precision},
  {key: 'recall', label: 'recall', group: 'Held-out proteins', get: c => c.heldOut.recall},
  {key: 'amino', label: 'amino acids', group: 'Baselines (F1)', get: c => c.amino},
  {key: 'neuron', label: 'best neuron', group: 'Baselines (F1)', get: c => c.neuron},
  {key: 'chosen', label: 'F1', group: 'Validation', get: c => c.validation.f1},
  {key: 'threshold', label: 'threshold', group: 'Validation', get: c => c.threshold},
  {key: 'positives', label: 'residues', group: 'Annotated', get: c => c.positives},
  {key: 'instances', label: 'spans', group: 'Annotated', get: c => c.instances}
];
const sorting = {key: 'f1', down: true};

// Missing numbers stay at the end whichever way the column is sorted.
function ordered(list, get, down) {
  return list.slice().sort((a, b) => {
    const x = get(a), y = get(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  });
}

function tableHead() {
  const groups = el('tr'), names = el('tr');
  for (let i = 0; i < columns.length;) {
    let n = 1;
    const group = columns[i].group;
    while (group && i + n < columns.length && columns[i + n].group === group) ++n;
    groups.append(group ? el('th', {class: 'group first', colspan: n, scope: 'colgroup'},
      el('span', null, group)) : el('td', {class: 'blank'}));
    i += n;
  }
  columns.forEach((column, i) => {
    const first = i > 2 && column.group !== columns[i - 1].group;
    const button = el('button', {type: 'button'}, column.label);
    button.addEventListener('click', () => {
      sorting.down = sorting.key === column.key ? !sorting.down : column.key !== 'name';
      sorting.key = column.key;
      drawTable();
      document.querySelector('th[aria-sort] button').focus();
    });
    names.append(el('th', {scope: 'col',
      class: column.key === 'name' ? 'left' : first ? 'first' : null,
      'aria-sort': sorting.key !== column.key ? null : sorting.down ? 'descending' : 'ascending'},
      button));
  });
  return el('thead', null, groups, names);
}

function tableRow(c) {
  const cell = (label, text, style) => el('td', {'data-label': label, class: style || null}, text);
  const bar = el('td', {class: 'score'}, meter(c.heldOut.f1, c.amino, c.neuron, 150));
  const link = c.feature === null ? 'none' : !featureById.has(c.feature) ? count(c.feature) :
    el('a', {href: '#f' + c.feature}, String(c.feature));
  return el('tr', {class: passes(c) ? null : 'below'},
    el('td', {class: 'left'}, el('bdi', null, c.name), ' ',
      el('span', {class: 'kind'}, c.kind ? 'per domain' : 'per residue')),
    cell('feature', link), bar,
    cell('precision', score(c.heldOut.precision)), cell('recall', score(c.heldOut.recall)),
    cell('amino acids', score(c.amino), 'first'), cell('best neuron', score(c.neuron)),
    cell('validation F1', score(c.validation.f1), 'soft first'),
    cell('threshold', value(c.threshold), 'soft'),
    cell('annotated', count(c.positives), 'soft first'),
    cell('spans', count(c.instances), 'soft'));
}

// A narrow page lays the table out as blocks; the roles keep it a table for a screen reader.
function table(...parts) {
  const drawn = el('table', {role: 'table', 'aria-describedby': 'table-caption'}, ...parts);
  const roles = {thead: 'rowgroup', tbody: 'rowgroup', tr: 'row', td: 'cell', th: 'columnheader'};
  for (const [tag, role] of Object.entries(roles)) {
    drawn.querySelectorAll(tag).forEach(node => node.setAttribute('role', role));
  }
  return drawn;
}

function wordsOf(f) {
  if (f.words === null) {
    f.words = ['f' + f.id, f.name, ...f.concepts.map(c => c.name),
      ...f.top.map(t => data.proteins[t[0]].slice(0, 3).join(' '))].join('\n').toLowerCase();
  }
  return f.words;
}

// What the search box asks of a feature; `id` is set when it names one feature.
function search() {
  const query = byId('q').value.trim().toLowerCase();
  const id = /^(?:f|feature\s*)?#?(\d+)$/.exec(query);
  if (id) return {id: Number(id[1]), feature: f => f.id === Number(id[1]), text: () => false};
  const words = query.split(/\s+/).filter(Boolean);
  return {id: null, feature: f => words.every(w => wordsOf(f).includes(w)),
    text: name => words.every(w => name.toLowerCase().includes(w))};
}

function drawTable() {
  const asked = search();
  const kind = byId('kind').value;
  const fits = f => f !== undefined && asked.feature(f);
  const rows = concepts.filter(c => (kind === '' || c.kind === Number(kind)) &&
    (!byId('above').checked || passes(c)) &&
    (asked.text(c.name) || fits(featureById.get(c.feature))));
  const column = columns.find(c => c.key === sorting.key);
  byId('table-sort').value = sorting.key;
  const caption = byId('table-caption');
  const keep = (...parts) => el('span', {class: 'keep'}, ...parts);
  caption.replaceChildren(
    plural(rows.length, 'concept', 'concepts') +
      (rows.length < concepts.length ? ' of ' + count(concepts.length) : '') +
      '. The bar is the F1 on held-out proteins from 0 to 1; the marks are the baselines on the ' +
      'same proteins: ', keep(glyph('M-3.4 1H3.4L.7 6.5V13H-.7V6.5Z'), ' amino acids alone,'), ' ',
    keep(glyph('M-3.4 17H3.4L.7 11.5V5H-.7V11.5Z'), ' best single neuron.'),
    ' Grey bars do not pass both.');
  byId('concepts').replaceChildren(rows.length === 0 ?
    el('p', {class: 'nothing'}, concepts.length === 0 ? 'No concept was scored.' :
      'No concept fits the search and the filters.') :
    table(tableHead(), el('tbody', null,
      ...ordered(rows, column.get, sorting.down).map(tableRow))));
  return rows.length;
}
)js";

}  // namespace page_script

}  // namespace plmscope
