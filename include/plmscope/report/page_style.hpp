// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string_view>

// How the page looks. Two colours carry meaning and differ in lightness and in form as well: blue
// fields are activation (nine steps of even lightness in OKLCH at hue 245; text on every step has a
// contrast of at least 4.5 to 1, in light and in dark), the ochre underline is annotation.

namespace plmscope::inline PLMSCOPE_ABI {

namespace page_style {

inline constexpr std::string_view text = R"css(
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f5f6f7; --ink: #171b20; --soft: #565e68; --hair: #d8dce0;
  --rule: #171b20; --link: #1b5f92; --bar: #4a98d6; --track: #e8ebee; --note: #b2660a;
  --warn: #8a4b00;
  --a1: #d8eafb; --a2: #b9d9f5; --a3: #97c5ed; --a4: #6fafe5; --a5: #4a98d6; --a6: #3281bd;
  --a7: #1b6ba3; --a8: #025588; --a9: #00406a; --on-low: #07090c; --on-high: #ffffff;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", "Noto Serif",
    Cambria, Georgia, serif;
  --sans: -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #121518; --raised: #1b1f23; --ink: #e3e6e9; --soft: #9aa3ad; --hair: #31373d;
  --rule: #aab2ba; --link: #7db8ea; --bar: #509ad4; --track: #2a3036; --note: #e5a24a;
  --warn: #efb35f;
  --a1: #003051; --a2: #00446e; --a3: #03588c; --a4: #1b6da7; --a5: #3483bf; --a6: #509ad4;
  --a7: #6fb0e6; --a8: #90c7f6; --a9: #b6ddff; --on-low: #e6e9ec; --on-high: #0e1114;
} }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 var(--sans); }
.page { max-width: 74rem; margin: 0 auto; padding: 0 1.5rem; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: .18em; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
[tabindex="-1"]:focus { outline: none; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem; z-index: 4; }
bdi { unicode-bidi: isolate; }
h1, p, li { overflow-wrap: anywhere; }

.masthead { padding-top: 3rem; }
.overline { margin: 0 0 .6rem; color: var(--soft); font-size: 13px; letter-spacing: .02em; }
h1 { margin: 0; font: 600 2.1rem/1.2 var(--serif); letter-spacing: -.01em; max-width: 30em; }
.lede { margin: .9rem 0 0; max-width: 40em; font: 1.14rem/1.55 var(--serif); }
section { margin-top: 2.6rem; }
h2 { margin: 0; font: 600 1.3rem/1.3 var(--serif); }
.facts { margin: .8rem 0 0; display: grid; gap: 1.2rem 2rem;
  grid-template-columns: repeat(4, minmax(0, 1fr)); border-top: 2px solid var(--rule);
  border-bottom: 1px solid var(--hair); padding: .8rem 0 .9rem; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; font-size: 14px; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
dt + dd { font-size: 15px; font-weight: 600; }
.notes { margin: 1rem 0 0; padding: 0 0 0 1.3rem; columns: 2; column-gap: 3rem; font-size: 14px; }
.notes li { margin: 0 0 .55rem; padding-left: .2rem; break-inside: avoid; }
.notes li::marker { color: var(--soft); }
.notes .warning, .warning { color: var(--warn); font-weight: 600; }

.toolbar { position: sticky; top: 0; z-index: 2; display: flex; align-items: baseline; gap: .7rem;
  margin: 2.2rem -1.5rem -1rem; padding: .6rem 1.5rem; background: var(--paper);
  border-bottom: 1px solid var(--hair); }
.toolbar label { color: var(--soft); font-size: 14px; }
.toolbar output { color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
input[type=search], select, button { font: inherit; font-size: 14px; color: inherit;
  background: var(--raised); border: 1px solid var(--hair); border-radius: 3px; }
input[type=search] { flex: 0 1 24rem; min-width: 0; padding: .34rem .6rem; }
select { padding: .2rem .3rem; max-width: 100%; }
button { padding: .35rem .8rem; cursor: pointer; }
button:hover { border-color: var(--soft); }
.section-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: .3rem 1.6rem;
  justify-content: space-between; }
.controls { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; color: var(--soft);
  font-size: 14px; }
.controls select { color: var(--ink); }
.phone { display: none; }
.caption { margin: .35rem 0 .8rem; max-width: 62em; color: var(--soft); font-size: 14px; }
.caption svg { vertical-align: -3px; }
.keep { white-space: nowrap; }
.caption button, .link { padding: 0; border: 0; background: none; color: var(--link);
  text-decoration: underline; text-underline-offset: .18em; font-size: inherit; }

table { width: 100%; border-collapse: collapse; border-top: 2px solid var(--rule);
  border-bottom: 2px solid var(--rule); font-size: 14px; font-variant-numeric: tabular-nums; }
th { font-weight: 400; color: var(--soft); text-align: right; vertical-align: bottom;
  padding: .3rem 0 .3rem 1rem; font-size: 13px; white-space: nowrap; }
th.group { text-align: center; padding-bottom: .1rem; }
th.group span { display: block; border-bottom: 1px solid var(--hair); padding-bottom: .15rem; }
thead tr:last-child th { border-bottom: 1px solid var(--rule); padding-top: .1rem; }
th button { padding: .1rem 0; border: 0; background: none; color: inherit; font-size: inherit; }
th button:hover { color: var(--ink); text-decoration: underline; }
th[aria-sort=ascending] button, th[aria-sort=descending] button { color: var(--ink);
  font-weight: 600; }
th[aria-sort=ascending] button::after { content: " \2191"; }
th[aria-sort=descending] button::after { content: " \2193"; }
td { padding: .36rem 0 .36rem 1rem; text-align: right; border-bottom: 1px solid var(--hair);
  white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: var(--raised); }
td.left, th.left { text-align: left; padding-left: 0; white-space: normal; }
td.left { min-width: 11rem; overflow-wrap: anywhere; }
td.blank { border: 0; }
td.soft, .soft { color: var(--soft); }
.kind { color: var(--soft); font-size: 12.5px; white-space: nowrap; }
td.score { width: 13rem; }
td.first, th.first { padding-left: 1.9rem; }
.meter { display: inline-flex; align-items: baseline; gap: .6rem; font-weight: 600; }
.meter svg { display: block; flex: none; margin-left: -3px; align-self: center; }
.meter-track { fill: var(--track); }
.meter-fill { fill: var(--bar); }
.meter-mark { fill: var(--ink); stroke: var(--paper); stroke-width: .75; paint-order: stroke; }
.below .meter-fill { fill: var(--soft); opacity: .55; }
.below .meter { font-weight: 400; }
.card .nothing { margin: 0; }
.nothing { padding: 1.4rem 0; color: var(--soft); }

.card { display: grid; grid-template-columns: 15.5rem minmax(0, 1fr); gap: 0 2.6rem;
  border-top: 2px solid var(--rule); padding: 1rem 0 2.4rem; scroll-margin-top: 3.6rem; }
.card-head { position: sticky; top: 4.2rem; align-self: start; }
.card-head > p { margin: 0; }
.feature-id { color: var(--soft); font-size: 14px; }
.feature-id a { color: inherit; }
h3 { margin: 0 0 .35rem; font: 600 1.25rem/1.25 var(--serif); overflow-wrap: anywhere; }
h3.unnamed { font-weight: 400; font-style: italic; color: var(--soft); }
.small { font-size: 13px; color: var(--soft); font-variant-numeric: tabular-nums; }
.stats { display: grid; grid-template-columns: 1fr auto; gap: .1rem .8rem; margin: .8rem 0;
  padding: .55rem 0; border-top: 1px solid var(--hair); border-bottom: 1px solid var(--hair); }
.stats dt, .stats dd, .stats dt + dd { font-size: 13px; font-weight: 400; }
.stats dd { text-align: right; }
.others { list-style: none; margin: .1rem 0 .8rem; padding: 0; font-size: 13px; }
.others li { display: flex; justify-content: space-between; gap: .8rem; overflow-wrap: anywhere; }
.others b { font-weight: 400; white-space: nowrap; overflow-wrap: normal;
  font-variant-numeric: tabular-nums; }
.scale { position: relative; display: flex; margin-top: .75rem; }
.scale i { flex: 1; height: 10px; }
.scale .cut { position: absolute; top: -4px; width: 0; height: 18px;
  border-left: 2px solid var(--ink); outline: 1px solid var(--paper); }
.ends { display: flex; justify-content: space-between; }
.key { border-bottom: 2px solid var(--note); color: var(--ink); }

.protein + .protein { margin-top: 1.5rem; }
h4 { margin: 0; font: 600 15px/1.4 var(--sans); overflow-wrap: anywhere; }
h4 a { font-variant-numeric: tabular-nums; margin-right: .35em; }
h4 em { font-weight: 400; color: var(--soft); }
.protein p { margin: 0; }
.profile { display: block; width: 100%; height: 26px; margin: .3rem 0 .1rem; }
.profile .base { fill: var(--hair); }
.profile .rise { fill: var(--a6); }
.profile .span { fill: var(--note); }
.sequence { display: flex; flex-wrap: wrap; gap: .1rem .7rem; font: 13px/1.3 var(--mono);
  border-radius: 2px; cursor: default; }
.block { display: block; }
.ruler { display: block; text-align: right; font: 9.5px/1.5 var(--sans); color: var(--soft);
  font-variant-numeric: tabular-nums; user-select: none; }
.run { display: flex; }
.run span { width: .73em; text-align: center; border-bottom: 2px solid transparent; }
.run .u { border-bottom-color: var(--note); }
.run .here { outline: 2px solid var(--ink); outline-offset: 0; position: relative; }
.a1, .a2, .a3, .a4, .a5, .a6 { color: var(--on-low); } .a7, .a8, .a9 { color: var(--on-high); }
@media screen and (prefers-color-scheme: dark) { .a5, .a6 { color: var(--on-high); } }
.a1 { background: var(--a1); } .a2 { background: var(--a2); } .a3 { background: var(--a3); }
.a4 { background: var(--a4); } .a5 { background: var(--a5); } .a6 { background: var(--a6); }
.a7 { background: var(--a7); } .a8 { background: var(--a8); } .a9 { background: var(--a9); }
.neg { box-shadow: inset 0 0 0 1px var(--soft); }
.fold { align-self: end; width: calc(13px * 7.3); padding: 0; margin-bottom: 1px;
  border-radius: 2px; border-style: dashed;
  background: none; color: var(--soft); font: 12px/1.5 var(--sans);
  font-variant-numeric: tabular-nums; }
mark { background: none; color: inherit; box-shadow: inset 0 -.5em var(--a2); }
.more { text-align: center; margin: 0; }
.more:not([hidden]) { border-top: 1px solid var(--hair); padding: 1.2rem 0; }
.protein-more { margin-top: 1.2rem; }
#tip { position: fixed; z-index: 3; max-width: 17rem; padding: .4rem .6rem; pointer-events: none;
  background: var(--ink); color: var(--paper); font-size: 13px; line-height: 1.4;
  border-radius: 3px; font-variant-numeric: tabular-nums; }
#tip p { margin: 0; }
#tip p:first-child { font-weight: 600; }
footer { margin-top: 2rem; padding-bottom: 3rem; color: var(--soft); font-size: 13px;
  overflow-wrap: anywhere; }

@media (max-width: 60rem) {
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .notes { columns: 1; }
  .card { grid-template-columns: minmax(0, 1fr); gap: 1.2rem; }
  .card-head { position: static; max-width: 32rem; }
  table, thead, tbody, tr, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody { display: grid; gap: 0 2.4rem;
    grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
  tbody tr { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.1fr) minmax(0, 1fr);
    gap: 0 .6rem; align-content: start; padding: .6rem 0; border-bottom: 1px solid var(--hair); }
  td, td.left, td.first { border: 0; padding: 0; min-width: 0; font-size: 13px; text-align: left; }
  td.left { grid-column: span 2; font-size: 15px; }
  td.score { grid-column: 1 / -1; width: auto; padding: .15rem 0; }
  td[data-label]::before { content: attr(data-label) " "; color: var(--soft); }
  tbody tr:last-child { border-bottom: 0; }
  tbody tr:hover td { background: none; }
  .phone { display: inline; }
}
@media (max-width: 30rem) {
  .page { padding: 0 1rem; }
  .masthead { padding-top: 1.6rem; }
  h1 { font-size: 1.6rem; }
  .lede { font-size: 1.05rem; }
  .facts { gap: .8rem; grid-template-columns: minmax(0, 1fr); }
  .toolbar { margin: 1.8rem -1rem -1rem; padding: .5rem 1rem; flex-wrap: wrap; }
  .toolbar label { display: none; }
  input[type=search] { flex: 1 1 100%; font-size: 16px; }
  .card { scroll-margin-top: 5.2rem; }
  .sequence { gap: .1rem .5rem; }
  .fold { padding: .2rem 0; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; }
  body { font-size: 9.5pt; }
  .toolbar, .controls, .more, .skip, .protein-more, #tip { display: none !important; }
  .page { max-width: none; padding: 0; }
  .protein, tr, .facts { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  .card-head { position: static; }
  .run span, .scale i, .meter-fill { print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  th.group, thead { display: table-header-group; }
}
)css";

}  // namespace page_style

}  // namespace plmscope
