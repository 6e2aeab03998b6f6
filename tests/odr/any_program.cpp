// SPDX-License-Identifier: MIT
// A program that would succeed if it got as far as main.
int main() { return 0; }
