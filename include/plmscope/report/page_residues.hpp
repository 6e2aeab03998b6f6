// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string_view>

// The last part of the page's script: reading single residues by pointer, tap or arrow key, and the
// start of everything.

namespace plmscope::inline PLMSCOPE_ABI {

namespace page_residues {

inline constexpr std::string_view text = R"js(
let here = null;  // the residue that is being read

function hideTip() {
  if (here) here.classList.remove('here');
  here = null;
  byId('tip').hidden = true;
}

function readResidue(residue, speak) {
  hideTip();
  const run = residue.parentNode;
  const view = views.get(run.closest('.sequence'));
  const p = run.begin + Array.prototype.indexOf.call(run.children, residue);
  const v = view.values[p], letter = view.sequence[p];
  const known = Object.prototype.hasOwnProperty.call(RESIDUES, letter);
  const title = (known ? RESIDUES[letter] : letter) + NB + (p + 1);
  const lines = [v === 0 ? 'not active' : 'activation ' + value(v) + ', ' +
    (v > 0 && v < 0.005 * view.scale ? '<' + NB + '1' : Math.round(100 * v / view.scale)) + NB +
    '% of the maximum'];
  for (const [begin, end] of view.spans) {
    if (begin <= p && p < end) {
      lines.push(view.feature.name + ' ' + (begin + 1) + '\u2013' + end);
      break;
    }
  }
  here = residue;
  here.classList.add('here');
  const tip = byId('tip');
  tip.replaceChildren(...[title, ...lines].map(line => el('p', null, line)));
  tip.hidden = false;
  const at = residue.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = Math.min(at.left + at.width / 2 - size.width / 2,
    document.documentElement.clientWidth - size.width - 8);
  const above = at.top - size.height - 8;
  tip.style.left = Math.max(8, left) + 'px';
  tip.style.top = (above < 8 ? at.bottom + 8 : above) + 'px';
  if (speak) byId('spoken').textContent = [title, ...lines].join(', ');
}

const residueAt = target => target instanceof Element ? target.closest('.run > span') : null;

function onKey(event) {
  const box = event.target;
  if (event.key === 'Escape') hideTip();
  if (!views.has(box)) return;
  const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: 0, End: 0};
  const step = steps[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const all = [...box.querySelectorAll('.run > span')];
  let at = here && box.contains(here) ? all.indexOf(here) : -1;
  if (event.key === 'Home' || event.key === 'End') {
    at = event.key === 'Home' ? 0 : all.length - 1;
  } else if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
    at = Math.min(all.length - 1, Math.max(0, at + step));
  } else {
    const active = i => /\b(a\d|neg)\b/.test(all[i].className);
    let next = at + step;
    while (next >= 0 && next < all.length && !active(next)) next += step;
    if (next < 0 || next >= all.length) return;
    at = next;
  }
  if (!all[at]) return;
  all[at].scrollIntoView({block: 'nearest'});
  readResidue(all[at], true);
}

function start() {
  for (const column of columns) {
    byId('table-sort').append(el('option', {value: column.key},
      (column.group ? column.group + ': ' : '') + column.label));
  }
  byId('table-sort').addEventListener('change', event => {
    sorting.key = event.target.value;
    sorting.down = sorting.key !== 'name';
    drawTable();
  });
  let waiting = 0;
  byId('q').addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 120);
  });
  for (const id of ['above', 'kind']) byId(id).addEventListener('change', drawTable);
  for (const id of ['which', 'order']) {
    byId(id).addEventListener('change', () => { pinned = null; drawFeatures(); });
  }
  byId('more').addEventListener('click', () => {
    const next = drawn;
    drawMore();
    byId('f' + listed[next].id).focus({preventScroll: true});
  });
  const cards = byId('cards');
  cards.addEventListener('pointerover', event => {
    const residue = residueAt(event.target);
    if (residue && event.pointerType === 'mouse') readResidue(residue, false);
  });
  cards.addEventListener('pointerout', event => {
    if (event.pointerType === 'mouse' && !residueAt(event.relatedTarget)) hideTip();
  });
  document.addEventListener('click', event => {
    const residue = residueAt(event.target);
    if (residue) readResidue(residue, false);
    else hideTip();
    const link = event.target.closest('a[href^="#f"]');
    if (link && link.getAttribute('href') === location.hash) followAddress();
  });
  document.addEventListener('keydown', onKey);
  addEventListener('scroll', () => { if (here && !views.has(document.activeElement)) hideTip(); },
    {passive: true});
  addEventListener('hashchange', followAddress);

  if (!features.some(f => f.name)) byId('which').value = 'all';
  drawSummary();
  drawAll();
  followAddress();
}
start();
)js";

}  // namespace page_residues

}  // namespace plmscope
