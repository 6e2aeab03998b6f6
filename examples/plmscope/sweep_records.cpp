// SPDX-License-Identifier: MIT
#include "sweep_records.hpp"

#include "rules.hpp"

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/train/checkpoint_folder.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t max_records_bytes = std::size_t{1} << 30;

/// All lines, in order.
std::vector<json_object> records_in(const std::filesystem::path& folder) {
  std::vector<json_object> out;
  const auto path = folder / sweep_records::file_name;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path))) return out;
  const auto bytes = plmscope::read_file(path, max_records_bytes);
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (std::size_t line = 1; !text.empty(); ++line) {
    const auto end = std::min(text.find('\n'), text.size());
    auto record = json_object::parse(text.substr(0, end), nullptr, false);
    const bool good = record.is_object() && record.contains("run") && record["run"].is_string() &&
                      record.contains("asked") && record.contains("sae") &&
                      record["sae"].is_string() && record.contains("sha256") &&
                      record["sha256"].is_string() && record.contains("rows") &&
                      record["rows"].is_object();
    if (!good) {
      throw plmscope::error(plmscope::rules::sweep_records,
                            {.where = fmt::format("{}:{}", path.string(), line),
                             .found = std::string(text.substr(0, std::min<std::size_t>(end, 80))),
                             .remedy = "remove the line: its run is then done again"});
    }
    out.push_back(std::move(record));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

const std::filesystem::path& made(const std::filesystem::path& folder) {
  std::error_code failure;
  const auto above = std::filesystem::absolute(folder).parent_path();
  std::filesystem::create_directories(above, failure);
  if (failure) {
    throw plmscope::error(plmscope::rules::sweep_folder,
                          {.where = above.string(), .found = failure.message()});
  }
  return folder;
}

}  // namespace

sweep_records::sweep_records(const std::filesystem::path& folder)
    : folder_(made(folder), plmscope::rules::sweep_folder), lock_(folder_.lock(0, 1, false)) {
  if (lock_.get() < 0) {
    throw plmscope::error(plmscope::rules::sweep_folder,
                          {.where = folder_.path().string(),
                           .found = "another process sweeps here",
                           .remedy = "wait for it, or choose another folder with --out"});
  }
  // Temporary files are nobody's now.
  for (const auto& name : folder_.names()) {
    const auto of = folder_.temporary_of(name);
    if (of == file_name || of.ends_with(".safetensors")) folder_.unlink(name);
  }
  records_ = records_in(folder_.path());
}

std::map<std::string, json_object> sweep_records::read(const std::filesystem::path& folder) {
  std::map<std::string, json_object> out;
  for (auto& record : records_in(folder)) {
    const std::string run = record["run"];
    out[run] = std::move(record);
  }
  return out;
}

const json_object* sweep_records::find(const std::string& run) const {
  const auto at = std::ranges::find_if(records_, [&](const auto& r) { return r["run"] == run; });
  return at == records_.end() ? nullptr : &*at;
}

void sweep_records::put(json_object record) {
  std::erase_if(records_, [&](const auto& r) { return r["run"] == record["run"]; });
  records_.push_back(std::move(record));
  std::string text;
  for (const auto& r : records_) {
    text += r.dump(-1, ' ', false, json_object::error_handler_t::replace) + '\n';
  }
  plmscope::write_file_atomically(folder_.path() / file_name, text);
}

// Only what a training puts there; a folder with anything else stays.
void sweep_records::drop_checkpoints(const std::filesystem::path& checkpoints) const {
  std::error_code ignored;
  if (!std::filesystem::is_directory(std::filesystem::symlink_status(checkpoints))) return;
  {
    const plmscope::checkpoint_folder<> open(checkpoints);
    for (const std::size_t step : open.steps()) std::filesystem::remove(open.path(step), ignored);
  }
  std::filesystem::remove(checkpoints / plmscope::durable_folder<>::lock_name, ignored);
  std::filesystem::remove(checkpoints, ignored);
}

std::string file_hash(const std::filesystem::path& file) {
  plmscope::sha256 hash;
  const plmscope::mapped_file bytes(file);
  hash.update(bytes.bytes());
  return hash.hex();
}

std::string differences(const json_object& there, const json_object& asked,
                        const std::string& before) {
  std::string out;
  const auto note = [&](const std::string& key, const std::string& a, const std::string& b) {
    out += fmt::format("{}{}{}: {}, asked for {}", out.empty() ? "" : "; ", before, key, a, b);
  };
  for (const auto& [key, value] : asked.items()) {
    if (!there.contains(key)) {
      note(key, "not stated", value.dump());
    } else if (value.is_object() && there[key].is_object()) {
      const auto inner = differences(there[key], value, before + key + ".");
      if (!inner.empty()) out += (out.empty() ? "" : "; ") + inner;
    } else if (there[key] != value) {
      note(key, there[key].dump(), value.dump());
    }
  }
  for (const auto& [key, value] : there.items()) {
    if (!asked.contains(key)) note(key, value.dump(), "nothing");
  }
  return out;
}
