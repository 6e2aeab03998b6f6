// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/io/byte_source.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A model's name on the Hugging Face hub, `facebook/esm2_t6_8M_UR50D` or with a branch, tag or
/// commit behind it, `facebook/esm2_t6_8M_UR50D@main`.
struct hub_id {
  std::string owner;
  std::string name;
  std::string revision;  ///< empty: what `main` was when it was fetched

  /// Nothing where the text is no such name.
  static std::optional<hub_id> parse(std::string_view text) {
    const std::size_t at = text.find('@');
    const std::string_view id = text.substr(0, at);
    const std::size_t slash = id.find('/');
    if (slash == std::string_view::npos) return {};
    hub_id out{.owner = std::string(id.substr(0, slash)),
               .name = std::string(id.substr(slash + 1)),
               .revision = {}};
    if (at != std::string_view::npos) {
      out.revision = text.substr(at + 1);
      if (!plain_path(out.revision)) return {};
    }
    if (!plain(out.owner) || !plain(out.name)) return {};
    return out;
  }

  std::string repository() const { return owner + "/" + name; }
  /// The command that fetches it.
  std::string fetch_command() const {
    return "hf download " + repository() + (revision.empty() ? "" : " --revision " + revision);
  }

  /// Letters, digits, '-', '_' and '.', not at the front.
  static bool plain(std::string_view word) {
    const auto fine = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '.' || c == '_' || c == '-';
    };
    return !word.empty() && word.size() <= 128 && word.front() != '.' && word.front() != '-' &&
           std::all_of(word.begin(), word.end(), fine);
  }
  /// Such words with '/' between them, as in `refs/pr/3`.
  static bool plain_path(std::string_view path) {
    for (;;) {
      const std::size_t slash = path.find('/');
      if (!plain(path.substr(0, slash))) return false;
      if (slash == std::string_view::npos) return true;
      path.remove_prefix(slash + 1);
    }
  }
};

/// Where models that were fetched by other programs lie. Nothing is ever fetched here, so
/// HF_HUB_OFFLINE changes nothing.
struct model_caches {
  std::filesystem::path hub;    ///< of Hugging Face: `models--OWNER--NAME/snapshots/COMMIT`
  std::filesystem::path torch;  ///< of torch.hub, which fair-esm uses: `NAME.pt`

  /// `hub` from HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or HOME, in this order, as huggingface_hub
  /// does; `torch` from TORCH_HOME, XDG_CACHE_HOME or HOME, as torch.hub does.
  static model_caches of_environment() {
    const auto set = [](const char* name) -> std::filesystem::path {
      const char* value = std::getenv(name);
      return value == nullptr ? "" : value;
    };
    std::filesystem::path cache = set("XDG_CACHE_HOME");
    if (cache.empty()) cache = set("HOME") / ".cache";
    model_caches out{.hub = set("HF_HUB_CACHE"), .torch = set("TORCH_HOME")};
    if (out.hub.empty()) out.hub = set("HUGGINGFACE_HUB_CACHE");
    if (out.hub.empty() && !set("HF_HOME").empty()) out.hub = set("HF_HOME") / "hub";
    if (out.hub.empty()) out.hub = cache / "huggingface" / "hub";
    if (out.torch.empty()) out.torch = cache / "torch";
    out.torch /= std::filesystem::path("hub") / "checkpoints";
    return out;
  }
};

/// One model in the hub cache.
class hub_repository {
 public:
  hub_repository(const std::filesystem::path& hub, const hub_id& id)
      : folder_(hub / ("models--" + id.owner + "--" + id.name)) {}
  explicit hub_repository(std::filesystem::path folder) : folder_(std::move(folder)) {}

  const std::filesystem::path& folder() const noexcept { return folder_; }

  /// The snapshot of a revision (a commit, or a branch or tag that was fetched by this name), or
  /// nothing. An empty revision is `main`.
  std::optional<std::filesystem::path> snapshot(const std::string& revision) const {
    const std::string asked = revision.empty() ? "main" : revision;
    if (!hub_id::plain_path(asked)) return {};
    std::string commit = asked;
    std::error_code ignored;
    const auto ref = folder_ / "refs" / asked;
    if (std::filesystem::is_regular_file(ref, ignored)) {
      const auto bytes = read_file(ref, 256);
      commit.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      while (!commit.empty() && static_cast<unsigned char>(commit.back()) <= ' ') commit.pop_back();
    }
    if (!hub_id::plain(commit)) return {};
    const auto out = folder_ / "snapshots" / commit;
    if (!std::filesystem::is_directory(out, ignored)) return {};
    return out;
  }

  /// The revisions that are there: names under `refs`, then commits.
  std::vector<std::string> revisions() const {
    std::vector<std::string> out;
    std::error_code failed;
    const auto refs = folder_ / "refs";
    for (std::filesystem::recursive_directory_iterator at(refs, failed), end; !failed && at != end;
         at.increment(failed)) {
      std::error_code ignored;
      if (at->is_regular_file(ignored)) {
        out.push_back(at->path().lexically_relative(refs).generic_string());
      }
    }
    std::sort(out.begin(), out.end());
    const std::size_t names = out.size();
    failed.clear();
    for (std::filesystem::directory_iterator at(folder_ / "snapshots", failed), end;
         !failed && at != end; at.increment(failed)) {
      out.push_back(at->path().filename().string());
    }
    std::sort(out.begin() + static_cast<std::ptrdiff_t>(names), out.end());
    return out;
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
