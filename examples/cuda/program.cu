// SPDX-License-Identifier: MIT
// The program for the GPU: the same files in one, so that nvcc reads the headers once.
#include "../plmscope/ask.cpp"
#include "../plmscope/concepts.cpp"
#include "../plmscope/demo.cpp"
#include "../plmscope/embed.cpp"
#include "../plmscope/info.cpp"
#include "../plmscope/main.cpp"
#include "../plmscope/other_backend.cpp"
#include "../plmscope/results.cpp"
#include "../plmscope/scoring.cpp"
#include "../plmscope/train.cpp"
#include "../plmscope/verify.cpp"
