// SPDX-License-Identifier: MIT
// A program compiled for one processor dies of SIGILL on an older one, without a word. This file is
// compiled for the plain architecture, linked into every program of ours, and looks before anything
// else runs whether the processor has what the rest was compiled for. cmake/cpu_check.cmake passes
// that as PLMSCOPE_CPU_NEEDS, for example `X(avx2) X(fma)`.
//
// Only system calls here: a C++ library function could be the copy compiled for the other processor.

#if defined(PLMSCOPE_CPU_NEEDS) && (defined(__x86_64__) || defined(__i386__))

#include <unistd.h>

namespace {

void say(const char* text) {
  const char* end = text;
  while (*end != '\0') ++end;
  while (text != end) {
    const auto written = ::write(STDERR_FILENO, text, static_cast<unsigned long>(end - text));
    if (written <= 0) return;
    text += written;
  }
}

// 101 is the earliest priority that is not the compiler's own: static objects of the program come
// later.
__attribute__((constructor(101))) void refuse_other_processors() {
  __builtin_cpu_init();
  bool missing = false;
#define X(feature)                                                                          \
  if (!__builtin_cpu_supports(#feature)) {                                                  \
    say(missing ? ", " : "plmscope: this program was compiled for a processor with ");      \
    say(#feature);                                                                          \
    missing = true;                                                                         \
  }
  PLMSCOPE_CPU_NEEDS
#undef X
  if (!missing) return;
  say(", which this machine lacks; build it here, or with -D PLMSCOPE_NATIVE=OFF for any machine.\n");
  ::_exit(70);
}

}  // namespace

#endif
