// SPDX-License-Identifier: MIT
#include <iostream>
#include <typeinfo>

const std::type_info* first_error();
const std::type_info* second_error();
const void* first_rule();
const void* second_rule();
float first_sum();
float second_sum();

// Two translation units with all headers, in opposite orders, are one program.
int main() {
  const bool one = first_error() == second_error() && first_rule() == second_rule();
  const bool right = first_sum() == 65 * 0.5f && second_sum() == first_sum();
  std::cout << "one definition: " << one << ", same sums: " << right << std::endl;
  return one && right ? 0 : 1;
}
