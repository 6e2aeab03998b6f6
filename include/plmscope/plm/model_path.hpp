// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/hub_cache.hpp>
#include <plmscope/plm/rules.hpp>

#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The files of a model, found from what a user called it.
struct model_files {
  std::filesystem::path weights;   ///< a weights file, or the index of several
  std::filesystem::path config;    ///< config.json beside it; empty where there is none
  std::filesystem::path contacts;  ///< fair-esm's NAME-contact-regression.pt; empty as well
  std::string name;                ///< esm2_t6_8M_UR50D
};

/// Finds a model by what a user types:
///
///   a file               there: safetensors, `.bin`, `.pt`, or an `.index.json`
///   a folder             in it, in this order: `model.safetensors`, its index,
///                        `pytorch_model.bin`, its index, a single `.pt`
///   OWNER/NAME[@REVISION]   in the cache of Hugging Face, then `NAME.pt` in that of torch.hub
///   esm2_t6_8M_UR50D     as `facebook/esm2_t6_8M_UR50D`
///
/// What exists as a path is a path. Nothing is fetched: where nothing is found the error (plm.109
/// for a path, plm.119 for a name) says where it was looked for and the command that fetches it.
class model_path {
 public:
  static model_files find(const std::filesystem::path& typed,
                          const model_caches& caches = model_caches::of_environment()) {
    std::error_code ignored;
    if (std::filesystem::is_directory(typed, ignored)) return in_folder(typed);
    if (std::filesystem::is_regular_file(typed, ignored)) return beside(typed, name_of_file(typed));
    std::string text = typed.generic_string();
    if (text.starts_with("esm2_t") && text.find('/') == std::string::npos) {
      text = "facebook/" + text;
    }
    const auto id = hub_id::parse(text);
    if (id && !has_ending(text)) return in_caches(*id, caches);
    throw error(rules::model_missing,
                {.where = typed.string(),
                 .found = std::filesystem::exists(typed, ignored) ? "neither a file nor a folder"
                                                                  : "no such path",
                 .remedy = "give a folder with model.safetensors, a weights file (.safetensors, "
                           ".bin, .pt), or a name such as facebook/esm2_t6_8M_UR50D"});
  }

 private:
  static constexpr std::array<std::string_view, 4> known_names{
      "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
      "pytorch_model.bin.index.json"};
  static constexpr std::string_view contact_ending = "-contact-regression.pt";

  // Whether a text can only be a file.
  static bool has_ending(std::string_view text) {
    for (const std::string_view ending : {".safetensors", ".bin", ".pt", ".pth", ".json"}) {
      if (text.ends_with(ending)) return true;
    }
    return false;
  }
  static bool has(const std::filesystem::path& file) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(file, ignored);
  }

  // The weights in a folder, or nothing.
  static std::optional<std::filesystem::path> weights_in(const std::filesystem::path& folder) {
    for (const std::string_view name : known_names) {
      if (has(folder / name)) return folder / name;
    }
    std::vector<std::filesystem::path> found;
    std::error_code failed;
    for (std::filesystem::directory_iterator at(folder, failed), end; !failed && at != end;
         at.increment(failed)) {
      const std::string name = at->path().filename().string();
      if (name.ends_with(".pt") && !name.ends_with(contact_ending)) found.push_back(at->path());
    }
    if (found.size() == 1 && has(found[0])) return found[0];
    return {};
  }

  static model_files in_folder(const std::filesystem::path& folder) {
    if (const auto weights = weights_in(folder)) return beside(*weights, name_of_file(*weights));
    std::error_code ignored;
    if (std::filesystem::is_directory(folder / "snapshots", ignored)) {
      const hub_repository repository(folder);
      if (const auto snapshot = repository.snapshot("")) {
        if (const auto weights = weights_in(*snapshot)) {
          return beside(*weights, name_of_file(*weights));
        }
      }
    }
    throw error(rules::model_missing,
                {.where = folder.string(),
                 .expected = "model.safetensors, pytorch_model.bin, an index of one of them, or a "
                             "single .pt",
                 .found = "none of these in the folder",
                 .remedy = "name the file itself if it is called otherwise"});
  }

  static model_files in_caches(const hub_id& id, const model_caches& caches) {
    const hub_repository repository(caches.hub, id);
    const auto snapshot = repository.snapshot(id.revision);
    if (snapshot) {
      if (const auto weights = weights_in(*snapshot)) return beside(*weights, id.name);
    }
    const auto checkpoint = caches.torch / (id.name + ".pt");
    const bool fair = id.owner == "facebook" && id.revision.empty();
    if (fair && has(checkpoint)) return beside(checkpoint, id.name);
    std::string found = "no such path; ";
    const std::string place = (snapshot ? *snapshot : repository.folder()).string();
    if (snapshot) {
      found += "no complete weights in " + place;
    } else if (const auto revisions = repository.revisions(); !revisions.empty()) {
      found += "in " + place + " only the revisions";
      for (const std::string& r : revisions) found += " " + r;
    } else {
      found += "nothing at " + place;
    }
    if (fair) found += "; nothing at " + checkpoint.string();
    throw error(rules::model_not_cached,
                {.where = id.repository() + (id.revision.empty() ? "" : "@" + id.revision),
                 .found = std::move(found),
                 .remedy = "fetch it once: " + id.fetch_command() + "; or give a folder or file"});
  }

  // A weights file with what belongs to it.
  static model_files beside(const std::filesystem::path& weights, std::string name) {
    constexpr std::string_view own = ".model.safetensors";
    const std::string file = weights.filename().string();
    model_files out{.weights = weights, .config = {}, .contacts = {}, .name = std::move(name)};
    std::filesystem::path config;
    if (file.ends_with(own)) {
      config = weights.parent_path() / (file.substr(0, file.size() - own.size()) + ".config.json");
    } else if (known(file)) {
      config = weights.parent_path() / "config.json";
    }
    if (!config.empty() && has(config)) out.config = config;
    if (file.ends_with(".pt")) {
      auto contacts = weights;
      contacts.replace_filename(weights.stem().string() + std::string(contact_ending));
      if (has(contacts)) out.contacts = contacts;
    }
    return out;
  }

  static bool known(std::string_view file) {
    for (const std::string_view name : known_names) {
      if (file == name) return true;
    }
    return false;
  }

  // Of the file where it bears the model's name, else of its folder; in a snapshot of the hub's
  // cache, of the repository.
  static std::string name_of_file(const std::filesystem::path& file) {
    if (!known(file.filename().string())) return file.stem().string();
    std::error_code ignored;
    const auto parent = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
    const auto folder = std::filesystem::weakly_canonical(parent, ignored);
    const auto repository = folder.parent_path().parent_path().filename().string();
    if (folder.parent_path().filename() == "snapshots" && repository.starts_with("models--")) {
      return repository.substr(repository.find("--", 8) + 2);
    }
    return folder.filename().string();
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
