// SPDX-License-Identifier: MIT
#include "memory.hpp"
#include "text.hpp"

#include <cstring>

namespace simulator {
namespace {

class reader {
 public:
  reader(std::string_view text, module& into) : module_(into) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text.compare(i, 2, "//") == 0) i = std::min(text.find('\n', i), text.size() - 1);
      text_ += text[i];
    }
  }

  void read() {
    for (at_ = text_.find(".func"); at_ < text_.size(); at_ = text_.find(".func", at_)) {
      keep_called();
    }
    at_ = 0;
    for (skip(); at_ < text_.size(); skip()) {
      if (is(".target")) {
        target_ = static_cast<int>(number(text_.substr(text_.find("sm_", at_) + 3, 3)));
      }
      if (is(".version") || is(".target") || is(".address_size")) {
        at_ = text_.find('\n', at_);
        continue;
      }
      const std::size_t start = at_;
      const std::string head = take_until(";{(=");
      if (head.find(".entry") != std::string::npos) {
        read_function(head);
      } else if (head.find(".func") != std::string::npos) {
        at_ = start;
        keep_called();
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

  /// `.func (results) name (parameters) { .. }`: to be copied to where it is called.
  void keep_called() {
    const std::string head = take_until("{;");
    const std::size_t start = at_++;
    if (text_[start] == ';') return;
    for (int depth = 1; depth > 0; ++at_)
      depth += text_.at(at_) == '{' ? 1 : text_[at_] == '}' ? -1 : 0;
    called c;
    c.body = text_.substr(start, at_ - start);
    std::string rest = head.substr(head.find(".func") + 5);
    const auto names = [&rest] {  // in the parentheses that come first
      const auto open = rest.find('(');
      const auto close = rest.find(')', open);
      std::vector<std::string> all;
      for (const std::string& p : list(rest.substr(open + 1, close - open - 1))) {
        const declaration d = declared(p);
        if (d.bytes > 8) throw std::runtime_error("a parameter of a call: " + p);
        all.push_back(d.name);
      }
      rest = rest.substr(close + 1);
      return all;
    };
    if (trimmed(rest)[0] == '(') c.results = names();
    const std::string name = trimmed(rest.substr(0, rest.find('(')));
    c.parameters = names();
    called_[name] = c;
  }

  /// call (results), name, (parameters)
  void copy_called(const std::vector<std::string>& operands) {
    const bool answers = operands.at(0)[0] == '(';
    const std::string& name = operands.at(answers ? 1 : 0);
    const auto c = called_.find(name);
    if (c == called_.end()) throw std::runtime_error("a call of " + name);
    std::map<std::string, int> scope;
    const auto bind = [&](const std::vector<std::string>& formal, std::size_t operand) {
      if (operand >= operands.size()) return;
      const std::string& x = operands[operand];
      const auto actual = list(x.substr(1, x.size() - 2));
      for (std::size_t i = 0; i < formal.size(); ++i) scope[formal[i]] = known(actual.at(i));
    };
    if (answers) bind(c->second.results, 0);
    bind(c->second.parameters, answers ? 2 : 1);
    names_.push_back(std::move(scope));
    const std::string outer = std::exchange(copy_, std::to_string(++copies_) + " ");
    const std::string text = std::exchange(text_, c->second.body);
    const std::size_t at = std::exchange(at_, 0);
    for (skip(); at_ < text_.size(); skip()) read_statement();
    labels_[copy_ + "end"] = static_cast<int>(f_->code.size());
    text_ = text;
    at_ = at;
    copy_ = outer;
    names_.pop_back();
  }

  void read_function(const std::string& head) {
    auto made = std::make_unique<function>();
    f_ = made.get();
    f_->name = split(head.substr(head.find(".entry") + 6)).at(0);
    f_->target = target_;
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
        labels_[copy_ + text] = static_cast<int>(f_->code.size());
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
    } else if (text.starts_with(".param")) {  // of a call
      names_.back()[declared(text).name] = new_slot();
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
    if (in.words[0] == "call") {
      if (in.guard >= 0) throw std::runtime_error("a call under a condition: " + in.text);
      return copy_called(operands);
    }
    std::string label;
    if (in.words[0] == "bra") {
      label = copy_ + operands.back();
      operands.pop_back();
    } else if (in.words[0] == "ret" && !copy_.empty()) {
      in.words = {"bra"};
      label = copy_ + "end";
    } else if (in.has("param")) {  // of a call they are registers
      std::string& place = operands.at(in.words[0] == "ld" ? 1 : 0);
      const std::string name = trimmed(place.substr(1, place.find_first_of("+]") - 1));
      if (name[0] != '%' && known(name) >= 0) {
        place = name;
        in.words = {"mov", in.words.back()};
      }
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

  struct called {
    std::vector<std::string> results, parameters;
    std::string body;
  };

  module& module_;
  std::string text_;
  std::size_t at_ = 0;
  int target_ = 0;
  std::map<std::string, called> called_;
  int copies_ = 0;
  std::string copy_;  ///< before labels of a function that is copied
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
