// SPDX-License-Identifier: MIT
#include "module.hpp"

#include "memory.hpp"

#include <cctype>
#include <cstring>

namespace simulator {
namespace {

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

std::string trimmed(std::string_view x) {
  while (!x.empty() && is_space(x.front())) x.remove_prefix(1);
  while (!x.empty() && is_space(x.back())) x.remove_suffix(1);
  return std::string(x);
}
std::vector<std::string> split(std::string_view x) {
  std::vector<std::string> words;
  bool fresh = true;
  for (const char c : x) {
    if (!is_space(c)) {
      if (fresh) words.emplace_back();
      words.back() += c;
    }
    fresh = is_space(c);
  }
  return words;
}
/// At commas that are in no brackets.
std::vector<std::string> list(std::string_view x) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : x) {
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (std::string& p : parts) p = trimmed(p);
  if (parts.back().empty()) parts.pop_back();
  return parts;
}
u32 up_to(u32 x, u32 multiple) { return (x + multiple - 1) / multiple * multiple; }

/// The bits of 12, -1, 0x1F, 0f3F800000 or 0d3FF0000000000000.
u64 number(std::string x) {
  if (x.size() > 2 && x[0] == '0' && (x[1] == 'f' || x[1] == 'd')) {
    return std::stoull(x.substr(2), nullptr, 16);
  }
  if (x[0] == '-') return static_cast<u64>(std::stoll(x, nullptr, 0));
  return std::stoull(x, nullptr, 0);
}

struct declaration : variable {
  type of = type::none;
};

/// `.shared .align 8 .b8 name[16]` and the like.
declaration declared(std::string_view text) {
  declaration d;
  u64 count = 1;
  const auto words = split(text);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& w = words[i];
    if (w == ".align") {
      d.align = static_cast<u32>(number(words.at(++i)));
    } else if (w == ".shared" || w == ".global" || w == ".const" || w == ".local" ||
               w == ".param") {
      d.space = w == ".const" ? 'g' : w[1];
    } else if (w[0] == '.') {
      if (const type t = type_of(std::string_view(w).substr(1)); t != type::none) d.of = t;
    } else {
      const auto bracket = w.find('[');
      d.name = w.substr(0, bracket);
      if (bracket != std::string::npos) {
        count = w[bracket + 1] == ']' ? 0 : number(w.substr(bracket + 1));
      }
    }
  }
  d.align = std::max(d.align, bytes_of(d.of));
  d.bytes = count * bytes_of(d.of);
  return d;
}

class reader {
 public:
  reader(std::string_view text, module& into) : module_(into) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text.compare(i, 2, "//") == 0) i = std::min(text.find('\n', i), text.size() - 1);
      text_ += text[i];
    }
  }

  void read() {
    for (skip(); at_ < text_.size(); skip()) {
      if (is(".version") || is(".target") || is(".address_size")) {
        at_ = text_.find('\n', at_);
        continue;
      }
      const std::string head = take_until(";{(=");
      if (head.find(".entry") != std::string::npos) {
        read_function(head);
      } else if (head.find(".func") != std::string::npos) {
        throw std::runtime_error("a function that is called: " + head);
      } else {
        std::string values;
        if (text_[at_] == '=') values = take_until(";");
        ++at_;
        add_variable(declared(head), values);
      }
    }
  }

 private:
  void skip() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  bool is(std::string_view word) const { return text_.compare(at_, word.size(), word) == 0; }
  std::string take_until(const char* ends) {
    const std::size_t start = at_;
    at_ = text_.find_first_of(ends, at_);
    if (at_ == std::string::npos) throw std::runtime_error("the text ends within a statement");
    return text_.substr(start, at_ - start);
  }

  void add_variable(const declaration& d, std::string values) {
    if (d.name.empty()) return;
    variable v = d;
    std::replace_if(
        values.begin(), values.end(), [](char c) { return std::strchr("={},", c); }, ' ');
    v.initial.resize(v.bytes);
    std::size_t filled = 0;
    for (const std::string& x : split(values)) {
      const u64 bits = number(x);
      std::memcpy(&v.initial.at(filled), &bits, bytes_of(d.of));
      filled += bytes_of(d.of);
    }
    if (v.space == 'g' && v.bytes > 0) v.address = device_memory::get().variable(v.initial);
    module_.variables.emplace(v.name, v);
  }

  void read_function(const std::string& head) {
    auto made = std::make_unique<function>();
    f_ = made.get();
    f_->name = split(head.substr(head.find(".entry") + 6)).at(0);
    names_.assign(1, {});
    labels_.clear();
    wanted_.clear();
    shared_.clear();
    local_.clear();
    constants_.clear();
    specials_.clear();
    dynamic_.clear();
    if (text_[at_] == '(') read_parameters();
    const std::string directives = take_until("{");
    if (const auto most = directives.find(".maxntid"); most != std::string::npos) {
      f_->most_threads = static_cast<u32>(number(split(directives.substr(most)).at(1)));
    }
    ++at_;
    while (!names_.empty()) read_statement();
    f_->shared_bytes = up_to(f_->shared_bytes, 16);
    for (const int slot : dynamic_) f_->constants.emplace_back(slot, f_->shared_bytes);
    for (std::size_t i = 0; i < f_->code.size(); ++i) {
      instruction& in = f_->code[i];
      if (in.what != instruction::kind::branch) continue;
      in.target = labels_.at(wanted_[i]);
    }
    module_.functions[f_->name] = std::move(made);
  }
  void read_parameters() {
    ++at_;
    for (const std::string& text : list(take_until(")"))) {
      const declaration d = declared(text);
      const u32 offset = up_to(f_->parameter_bytes, d.align);
      f_->parameters.push_back({d.name, offset, static_cast<u32>(d.bytes)});
      f_->parameter_bytes = offset + static_cast<u32>(d.bytes);
    }
    ++at_;
  }

  void read_statement() {
    skip();
    if (is("{")) {
      names_.emplace_back();
      ++at_;
    } else if (is("}")) {
      names_.pop_back();
      ++at_;
    } else {
      const std::size_t end = text_.find_first_of(";:", at_);
      std::string text = text_.substr(at_, end - at_);
      const bool label =
          text_[end] == ':' && std::all_of(text.begin(), text.end(), [](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$';
          });
      if (label) {
        labels_[text] = static_cast<int>(f_->code.size());
        at_ = end + 1;
        return;
      }
      text = take_until(";");
      ++at_;
      if (text[0] == '.') {
        read_directive(text);
      } else if (!trimmed(text).empty()) {
        read_instruction(trimmed(text));
      }
    }
  }

  void read_directive(const std::string& text) {
    if (text.starts_with(".reg")) {
      const auto words = split(text);
      std::string all;
      for (std::size_t i = 2; i < words.size(); ++i) all += words[i];
      for (const std::string& name : list(all)) {
        const auto bracket = name.find('<');  // %r<7> are %r0 .. %r6
        const u64 count = bracket == std::string::npos ? 1 : number(name.substr(bracket + 1));
        for (u64 i = 0; i < count; ++i) {
          names_
              .back()[bracket == std::string::npos ? name
                                                   : name.substr(0, bracket) + std::to_string(i)] =
              new_slot();
        }
      }
    } else if (text.starts_with(".shared") || text.starts_with(".local")) {
      const declaration d = declared(text);
      place(d, d.space == 's' ? f_->shared_bytes : f_->local_bytes,
            d.space == 's' ? shared_ : local_);
    } else if (!text.starts_with(".pragma") && !text.starts_with(".loc")) {
      throw std::runtime_error("directive " + text);
    }
  }
  static u64 place(const variable& v, u32& used, std::map<std::string, u64>& where) {
    used = up_to(used, v.align);
    where[v.name] = used;
    used += static_cast<u32>(v.bytes);
    return where[v.name];
  }

  void read_instruction(std::string text) {
    instruction in;
    in.text = text;
    if (text[0] == '@') {
      std::string p = split(text)[0].substr(1);
      text = trimmed(text.substr(p.size() + 1));
      in.guard_negated = p[0] == '!';
      in.guard = known(in.guard_negated ? p.substr(1) : p);
    }
    std::string opcode = split(text)[0];
    auto operands = list(std::string_view(text).substr(opcode.size()));
    std::replace(opcode.begin(), opcode.end(), '.', ' ');
    in.words = split(opcode);
    std::string label;
    if (in.words[0] == "bra") {
      label = operands.back();
      operands.pop_back();
    }
    for (const std::string& x : operands) in.operands.push_back(parse(x, in));
    decode(in);
    f_->short_entries |= in.space == 's' && bytes_of(in.t) == 2;
    f_->code.push_back(std::move(in));
    wanted_.push_back(label);
  }

  operand parse(const std::string& x, const instruction& in) {
    operand o;
    if (x == "_") return o;
    if (x[0] == '{') {
      for (const std::string& p : list(x.substr(1, x.size() - 2))) o.parts.push_back(parse(p, in));
    } else if (x[0] == '[') {
      const std::string inside = x.substr(1, x.size() - 2);
      const auto plus = inside.find('+');
      o = parse(trimmed(inside.substr(0, plus)), in);
      if (plus != std::string::npos) o.offset = std::stoll(inside.substr(plus + 1), nullptr, 0);
    } else if (const auto bar = x.find('|'); bar != std::string::npos) {
      o.parts = {parse(x.substr(0, bar), in), parse(x.substr(bar + 1), in)};
    } else if (x[0] == '!') {
      o = parse(x.substr(1), in);
      o.negated = true;
    } else {
      o.slot = slot_of(x);
      if (o.slot < 0) throw std::runtime_error("operand " + x + " of " + in.text);
    }
    return o;
  }
  int slot_of(const std::string& x) {
    if (const int slot = known(x); slot >= 0) return slot;
    if (is_digit(x[0]) || x[0] == '-') return constant(number(x));
    if (x[0] == '%') {
      const auto [i, fresh] = specials_.try_emplace(x, 0);
      if (fresh) f_->specials.emplace_back(i->second = new_slot(), x);
      return i->second;
    }
    for (const parameter& p : f_->parameters) {
      if (p.name == x) return constant(p.offset);
    }
    if (const auto i = shared_.find(x); i != shared_.end()) return constant(i->second);
    if (const auto i = local_.find(x); i != local_.end()) return constant(i->second);
    const auto v = module_.variables.find(x);
    if (v == module_.variables.end()) return -1;
    if (v->second.space == 'g') return constant(v->second.address);
    if (v->second.bytes > 0) return constant(place(v->second, f_->shared_bytes, shared_));
    dynamic_.push_back(new_slot());
    return dynamic_.back();
  }
  int known(const std::string& name) const {
    for (auto scope = names_.rbegin(); scope != names_.rend(); ++scope) {
      if (const auto i = scope->find(name); i != scope->end()) return i->second;
    }
    return -1;
  }
  int constant(u64 x) {
    const auto [i, fresh] = constants_.try_emplace(x, 0);
    if (fresh) f_->constants.emplace_back(i->second = new_slot(), x);
    return i->second;
  }
  int new_slot() { return static_cast<int>(f_->slots++); }

  module& module_;
  std::string text_;
  std::size_t at_ = 0;
  // of the function that is read
  function* f_ = nullptr;
  std::vector<std::map<std::string, int>> names_;  ///< registers, by scope
  std::map<std::string, int> labels_, specials_;
  std::vector<std::string> wanted_;  ///< the label of each branch
  std::map<std::string, u64> shared_, local_;
  std::map<u64, int> constants_;
  std::vector<int> dynamic_;
};

}  // namespace

void read_ptx(std::string_view text, module& into) { reader(text, into).read(); }

}  // namespace simulator
