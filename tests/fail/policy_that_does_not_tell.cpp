// expect: plmscope: a checkpoint records what a policy is set to, and this type does not tell: add `template <class F> void settings(const F& f) const`
// SPDX-License-Identifier: MIT
// Plain structs are taken apart by themselves; a class with private numbers tells them.
#include <plmscope/train/policy_text.hpp>

#include <cstddef>

class halving {
 public:
  explicit halving(std::size_t every) : every_(every) {}
  double operator()(std::size_t step, std::size_t) const {
    return 1.0 / static_cast<double>(std::size_t{1} << (step / every_));
  }
#ifdef CONTROL
  template <class F>
  void settings(const F& f) const {
    f(every_);
  }
#endif

 private:
  std::size_t every_;
};

int main() { return plmscope::policy_text(halving(1000)).empty(); }
