// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/line_reader.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Reads a tab-separated table with a header line, plain or gzip, row by row. Empty lines are
/// skipped. A row with more or fewer cells than the header is io.303: columns never shift.
/// A cell that a spreadsheet or pandas wrote in quotes (`"a ""b"" c"`) is unquoted; other quotes
/// are ordinary characters; a quote that opens a cell and is never closed is io.304.
class tsv_reader {
 public:
  explicit tsv_reader(line_reader lines) : lines_(std::move(lines)) {
    do {
      if (!read_row()) {
        throw error(rules::tsv_empty, {.where = lines_.name(), .found = "no line"});
      }
    } while (cells_.empty());
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      header_.emplace_back(cell(i));
      if (std::find(header_.begin(), header_.end() - 1, header_.back()) != header_.end() - 1) {
        throw error(rules::tsv_column,
                    {.where = lines_.position(), .found = "\"" + header_.back() + "\" twice"});
      }
    }
  }
  explicit tsv_reader(const std::filesystem::path& path) : tsv_reader(line_reader(path)) {}

  std::span<const std::string> header() const noexcept { return header_; }

  /// The index of a column, or nothing. Names are compared exactly.
  std::optional<std::size_t> column(std::string_view name) const noexcept {
    const auto at = std::find(header_.begin(), header_.end(), name);
    if (at == header_.end()) return std::nullopt;
    return static_cast<std::size_t>(at - header_.begin());
  }

  /// The index of a column; io.302 lists the columns found when it is missing.
  std::size_t require_column(std::string_view name) const {
    if (const auto at = column(name)) return *at;
    std::string found;
    for (const std::string& h : header_) found += (found.empty() ? "" : ", ") + h;
    throw error(rules::tsv_column, {.where = lines_.name() + ":1",
                                    .expected = "a column \"" + std::string(name) + "\"",
                                    .found = found,
                                    .remedy = "columns are compared letter by letter"});
  }

  /// Moves to the next row; false at the end.
  bool next() {
    do {
      if (!read_row()) return false;
    } while (cells_.empty());
    if (cells_.size() != header_.size()) {
      throw error(rules::tsv_ragged, {.where = lines_.position(),
                                      .expected = std::to_string(header_.size()) + " cells",
                                      .found = std::to_string(cells_.size())});
    }
    return true;
  }

  /// A cell of the current row; valid until the next call of `next`.
  std::string_view cell(std::size_t column) const noexcept {
    const auto [from, size] = cells_[column];
    return std::string_view(text_).substr(from, size);
  }

  /// `file:line` of the current row.
  std::string position() const { return lines_.position(); }
  const std::string& name() const noexcept { return lines_.name(); }
  bool trailing_garbage() const noexcept { return lines_.trailing_garbage(); }

 private:
  // Cells as (offset, size) in text_, which holds the row with its quoted cells unquoted.
  bool read_row() {
    std::string_view line;
    if (!lines_.next(line)) return false;
    cells_.clear();
    text_.clear();
    if (line.empty()) return true;
    for (std::size_t from = 0; from <= line.size();) {
      const std::size_t tab = std::min(line.find('\t', from), line.size());
      const std::string_view raw = line.substr(from, tab - from);
      const std::size_t start = text_.size();
      if (raw.substr(0, 1) == "\"") {
        append_quoted(raw, from);
      } else {
        text_.append(raw);
      }
      cells_.emplace_back(start, text_.size() - start);
      from = tab + 1;
    }
    return true;
  }

  void append_quoted(std::string_view raw, std::size_t from) {
    const auto quotes = std::count(raw.begin(), raw.end(), '"');
    if (quotes % 2 != 0) {
      throw error(rules::tsv_quote,
                  {.where = lines_.position(from + 1),
                   .found = std::string(raw.substr(0, 60)),
                   .remedy = "tabs and line breaks inside cells are not supported"});
    }
    const std::string_view inner = raw.substr(1, raw.size() - 2);
    std::string unquoted;
    bool regular = raw.back() == '"';
    for (std::size_t i = 0; regular && i < inner.size(); ++i) {
      if (inner[i] == '"' && inner.substr(i, 2) != "\"\"") regular = false;
      if (inner[i] == '"') ++i;
      if (regular) unquoted += inner[i];
    }
    text_.append(regular ? std::string_view(unquoted) : raw);
  }

  line_reader lines_;
  std::vector<std::string> header_;
  std::string text_;
  std::vector<std::pair<std::size_t, std::size_t>> cells_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
