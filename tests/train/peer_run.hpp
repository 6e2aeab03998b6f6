// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/safetensors.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/train/trainer.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// One training run of another library, step by step, as a composition of our policies.
namespace peers {

using json = nlohmann::json;
using plmscope::const_view;

/// Whether a text of the description contains some words; false where there is no such text.
inline bool says(const json& config, const char* key, std::string_view words) {
  return config.contains(key) && config.at(key).is_string() &&
         config.at(key).get<std::string>().find(words) != std::string::npos;
}
inline bool from(const json& config, std::string_view library) {
  return config.at("library").get<std::string>().find(library) != std::string::npos;
}
inline std::string architecture(const json& config) {
  return config.at("neutral").at("architecture");
}

template <class B>
struct run {
  virtual ~run() = default;
  virtual void step(const_view<B> x, const_view<B> y, std::size_t s) = 0;
  virtual double loss() = 0;
  virtual B& backend() = 0;
  /// f(our name, matrix)
  virtual void parameters(const std::function<void(const std::string&, const_view<B>)>& f) = 0;
  /// Offsets and features of the entries that were active in the last step.
  virtual std::vector<std::int64_t> active() = 0;
  /// Codes of the batch with the parameters as they are, as a dense matrix.
  virtual std::vector<double> codes(const_view<B> x) = 0;
};

inline std::function<double(std::size_t)> rate_of(const json& config) {
  const json& lr = config.at("neutral").at("lr");
  double base = lr.at("base");
  if (says(lr, "scaling", "sqrt(F/2048)")) {
    base /= std::sqrt(config.at("dims").at("F").get<double>() / 2048);
  }
  const auto number = [&](const char* key) {
    return lr.contains(key) && lr.at(key).is_number() ? lr.at(key).get<std::size_t>() : 0;
  };
  const std::size_t warmup = number("warmup_steps");
  const std::size_t steps = number("total_steps");
  const std::size_t run_steps = config.at("dims").at("steps");
  if (number("restart_period") > 0) {
    const std::size_t period = number("restart_period");
    return [=](std::size_t s) {
      return base * std::min(1.0, static_cast<double>(s % period) / static_cast<double>(warmup));
    };
  }
  if (number("decay_start") > 0) {
    const plmscope::warmup_decay s{
        .warmup = warmup, .decay_start = number("decay_start"), .counts_from_one = false};
    return [=](std::size_t step) { return base * s(step, steps); };
  }
  if (number("decay_steps") > 0) {
    const plmscope::warmup_decay s{.warmup = warmup, .decay_start = steps - number("decay_steps")};
    return [=](std::size_t step) { return base * s(step, steps); };
  }
  if (says(lr, "schedule", "WSD")) {
    const auto n = static_cast<double>(steps);
    return [=](std::size_t s) {
      const auto at = static_cast<double>(s);
      if (s < warmup) return base * at / static_cast<double>(warmup);
      if (at < 0.8 * n) return base;
      return base * (1 - 0.9 * std::min(at - 0.8 * n, 0.8 * n) / (0.2 * n + 0.01));
    };
  }
  if (says(lr, "schedule", "cosine")) {
    const plmscope::warmup_cosine s{.warmup = warmup,
                                    .final_factor = lr.at("lr_min").get<double>() / base};
    return [=](std::size_t step) { return base * s(step, run_steps); };
  }
  if (says(lr, "schedule", "linear")) {
    const double least = lr.at("lr_min");
    return [=](std::size_t s) {
      if (s < warmup) return base * static_cast<double>(s) / static_cast<double>(warmup);
      const double p = static_cast<double>(s - warmup) / static_cast<double>(run_steps - warmup);
      return base + (least - base) * p;
    };
  }
  if (says(lr, "note", "get_linear_schedule_with_warmup")) {
    const std::size_t w = config.at("library_arguments").at("lr_warmup_steps");
    return [=](std::size_t s) {
      return s < w ? base * static_cast<double>(s) / static_cast<double>(w)
                   : base * static_cast<double>(run_steps - s) / static_cast<double>(run_steps - w);
    };
  }
  return [=](std::size_t s) {
    return s < warmup ? base * static_cast<double>(s) / static_cast<double>(warmup) : base;
  };
}

inline plmscope::adam adam_of(const json& config) {
  const json& o = config.at("neutral").at("optimizer");
  return {.beta1 = o.at("beta1"),
          .beta2 = o.at("beta2"),
          .epsilon = o.at("eps"),
          .weight_decay = o.value("weight_decay", 0.0)};
}

inline double clip_of(const json& config) {
  const json& clip = config.at("neutral").at("clip");
  return clip.is_object() ? clip.value("max", 0.0) : 0.0;
}

/// Our name of a parameter as the files call it.
inline std::string peer_name(const std::string& ours, const plmscope::safetensors_file& file) {
  if (ours == "encoder") return "W_enc";
  if (ours == "decoder") return "W_dec";
  if (ours == "skip") return "W_skip";
  if (ours == "gate_bias") return "b_gate";
  if (ours == "gate_scale") return "r_mag";
  if (ours == "router") return "router";
  if (ours == "block_bias") return "b_pre";
  const auto names = file.names();
  const auto has = [&](const std::string& end) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& n) { return n.ends_with(end); });
  };
  if (ours == "decoder_bias" && has("router")) return "none";  // the blocks' take its place
  if (ours == "encoder_bias") return has("b_mag") ? "b_mag" : "b_enc";
  if (ours == "threshold") return has("log_threshold") ? "log_threshold" : "threshold";
  return has("b_pre") ? "b_pre" : "b_dec";
}

/// A stored tensor in our layout: the sites of a crosscoder [L, F, d] stand side by side [F, L d].
inline std::vector<double> read(const plmscope::safetensors_file& file, const std::string& name) {
  auto values = file.read_vector<double>(name);
  const auto& shape = file.require(name).shape;
  if (shape.size() != 3) return values;
  std::vector<double> out(values.size());
  const std::size_t sites = shape[0], rows = shape[1], d = shape[2];
  for (std::size_t l = 0; l < sites; ++l) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t j = 0; j < d; ++j) {
        out[(r * sites + l) * d + j] = values[(l * rows + r) * d + j];
      }
    }
  }
  return out;
}

template <class Sae, class Policies>
class driven final : public run<typename Sae::backend_type> {
 public:
  using backend_type = typename Sae::backend_type;
  using view_type = const_view<backend_type>;
  using run_type = plmscope::training_run<Sae, Policies>;

  driven(typename Sae::options options, const Policies& policies, const json& config,
         const plmscope::safetensors_file& init)
      : model(std::move(options)), rate_(rate_of(config)) {
    model.parameters().for_each([&](const std::string& name, auto& m) {
      const std::string key = peer_name(name, init);
      if (!init.contains(key)) return;
      const auto values = read(init, key);
      model.backend().upload(std::span<const double>(values), m.all());
    });
    training = std::make_unique<run_type>(model, policies);
  }

  void step(view_type x, view_type y, std::size_t s) override {
    if (before) before(*this, x, y, s);
    training->step(x, rate_(s), y);
    if (after) after(*this, x, y, s);
  }
  double loss() override { return training->metrics().loss; }
  backend_type& backend() override { return model.backend(); }
  void parameters(const std::function<void(const std::string&, view_type)>& f) override {
    model.parameters().for_each([&](const std::string& name, auto& m) { f(name, view_type(m)); });
  }
  std::vector<std::int64_t> active() override {
    const auto z = plmscope::to_host(model.backend(), training->last_codes());
    std::vector<std::int64_t> out;
    for (std::size_t r = 0; r < z.rows(); ++r) {
      for (auto e = static_cast<std::size_t>(z.offsets[r]);
           e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
        if (z.values[e] != 0) out.push_back(static_cast<std::int64_t>(r * z.features + z.ids[e]));
      }
    }
    return out;
  }
  std::vector<double> codes(view_type x) override {
    plmscope::codes<backend_type> codes;
    if (encode) {
      encode(*this, x, codes);
    } else {
      model.encode(x, codes);
    }
    const auto z = plmscope::to_host(model.backend(), codes);
    std::vector<double> dense(z.rows() * z.features, 0.0);
    for (std::size_t r = 0; r < z.rows(); ++r) {
      for (auto e = static_cast<std::size_t>(z.offsets[r]);
           e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
        dense[r * z.features + z.ids[e]] = static_cast<double>(z.values[e]);
      }
    }
    return dense;
  }

  Sae model;
  std::unique_ptr<run_type> training;
  std::function<void(driven&, view_type x, view_type y, std::size_t s)> before, after;
  std::function<void(driven&, view_type x, plmscope::codes<backend_type>&)> encode;

 private:
  std::function<double(std::size_t)> rate_;
};

/// Starts the run; `prepare(driven&)` may set its hooks.
template <class Sae, class Policies, class Prepare>
std::unique_ptr<run<typename Sae::backend_type>> start(typename Sae::options options,
                                                       Policies policies, const json& config,
                                                       const plmscope::safetensors_file& init,
                                                       Prepare&& prepare) {
  policies.clip = clip_of(config);
  policies.steps = config.at("dims").at("steps");
  auto r = std::make_unique<driven<Sae, Policies>>(std::move(options), policies, config, init);
  prepare(*r);
  return r;
}

/// The data-dependent start of many trainers: at step 0 the decoder bias becomes the mean or the
/// geometric median of the batch, unless the stored start already has it.
template <class Driven>
void start_from_data(Driven& d, const json& config) {
  const json& n = config.at("neutral");
  const std::string init =
      n.contains("data_init") && n["data_init"].is_string() ? n["data_init"] : "";
  if (init.find("stored in init") != std::string::npos) return;
  const bool median = init.find("geometric median") != std::string::npos;
  if (!median && init.find("mean") == std::string::npos) return;
  d.before = [median, then = d.before](Driven& self, auto x, auto y, std::size_t s) {
    if (s == 0) {
      plmscope::initialize_bias(
          self.model, x,
          median ? plmscope::start_bias::geometric_median : plmscope::start_bias::mean, y);
    }
    if (then) then(self, x, y, s);
  };
}

template <class Sae>
typename Sae::options shape_of(const json& config) {
  typename Sae::options o;
  o.d_model = config.at("dims").at("D");
  o.features = config.at("dims").at("F");
  return o;
}

}  // namespace peers
