// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string_view>

// The still parts of the page, in the order in which write_html puts them together:
// head_begin, policy, head_style, style, body_begin, data, body_script, script, body_end.
// Everything that depends on the report is drawn from the data by the script.

namespace plmscope::inline PLMSCOPE_ABI {

namespace page_markup {

inline constexpr std::string_view head_begin = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="plmscope">
<meta http-equiv="Content-Security-Policy" content=")html";

inline constexpr std::string_view head_style = R"html(">
<title>plmscope feature report</title>
<style>)html";

inline constexpr std::string_view body_begin = R"html(</style>
</head>
<body>
<a class="skip" href="#features">Skip to the features</a>
<header class="masthead page">
  <p class="overline">plmscope feature report</p>
  <h1 id="title"></h1>
  <p class="lede" id="lede"></p>
</header>
<main class="page">
<noscript><p class="warning">This page draws its tables and sequences with a script of its own;
please allow JavaScript for this file. Nothing is loaded from the network.</p></noscript>
<section aria-labelledby="h-methods">
  <h2 id="h-methods">What was done</h2>
  <dl class="facts" id="facts"></dl>
  <ol class="notes" id="notes"></ol>
</section>
<div class="toolbar" role="search">
  <label for="q">Search</label>
  <input id="q" type="search" autocomplete="off" spellcheck="false"
    placeholder="concept, feature id, protein accession">
  <output id="found" for="q"></output>
</div>
<section aria-labelledby="h-concepts">
  <div class="section-head">
    <h2 id="h-concepts">Concepts and their features</h2>
    <div class="controls">
      <label class="check"><input type="checkbox" id="above"> above both baselines</label>
      <label>recall <select id="kind">
        <option value="">any</option><option value="0">per residue</option>
        <option value="1">per domain</option></select></label>
      <label class="phone">sort by <select id="table-sort"></select></label>
    </div>
  </div>
  <p class="caption" id="table-caption"></p>
  <div id="concepts"></div>
</section>
<section aria-labelledby="h-features" id="features" tabindex="-1">
  <div class="section-head">
    <h2 id="h-features">Features in their proteins</h2>
    <div class="controls">
      <label>show <select id="which">
        <option value="named">named</option><option value="unnamed">unnamed</option>
        <option value="all">all</option></select></label>
      <label>sort by <select id="order">
        <option value="f1">held-out F1</option><option value="max">maximal activation</option>
        <option value="rare">rarest first</option><option value="common">most common first</option>
        <option value="id">feature id</option></select></label>
    </div>
  </div>
  <p class="caption" id="features-caption"></p>
  <div id="cards"></div>
  <p class="more"><button type="button" id="more"></button></p>
</section>
</main>
<footer class="page"><p id="colophon"></p></footer>
<div id="tip" role="tooltip" hidden></div>
<p id="spoken" class="unseen" aria-live="polite"></p>
<script type="application/json" id="data">)html";

inline constexpr std::string_view body_script = R"html(</script>
<script>)html";

inline constexpr std::string_view body_end = R"html(</script>
</body>
</html>
)html";

}  // namespace page_markup

}  // namespace plmscope
