// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

// The other side of a comparison: a program of its own, started once, that answers one line to
// every line it is sent. Both sides then keep their state and can take turns at short intervals.
class rival_process {
 public:
  /// Starts `command` with `settings` (NAME=VALUE, or NAME alone to unset) in its environment.
  rival_process(const std::vector<std::string>& command, const std::vector<std::string>& settings) {
    int down[2];
    int up[2];
    if (::pipe(down) != 0 || ::pipe(up) != 0) throw std::runtime_error("no pipe for the rival");
    std::signal(SIGPIPE, SIG_IGN);
    child_ = ::fork();
    if (child_ < 0) throw std::runtime_error("the rival could not be started");
    if (child_ == 0) {
      ::dup2(down[0], 0);
      ::dup2(up[1], 1);
      for (const int end : {down[0], down[1], up[0], up[1]}) ::close(end);
      for (const std::string& s : settings) {
        const auto equals = s.find('=');
        if (equals == std::string::npos) {
          ::unsetenv(s.c_str());
        } else {
          ::setenv(s.substr(0, equals).c_str(), s.substr(equals + 1).c_str(), 1);
        }
      }
      std::vector<char*> arguments;
      for (const std::string& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
      arguments.push_back(nullptr);
      ::execvp(arguments[0], arguments.data());
      ::_exit(127);
    }
    ::close(down[0]);
    ::close(up[1]);
    to_ = down[1];
    from_ = up[0];
  }
  rival_process(const rival_process&) = delete;
  rival_process& operator=(const rival_process&) = delete;
  ~rival_process() {
    ::close(to_);
    ::close(from_);
    ::waitpid(child_, nullptr, 0);
  }

  void send(const void* data, std::size_t bytes) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(to_, at, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw std::runtime_error("the rival does not listen any more");
      at += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }

  /// Sends one line and returns the line that answers it.
  std::string ask(const std::string& line) {
    send((line + "\n").data(), line.size() + 1);
    std::string answer;
    for (char c = 0;;) {
      const ssize_t n = ::read(from_, &c, 1);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw std::runtime_error("the rival ended while it was asked for: " + line);
      if (c == '\n') return answer;
      answer += c;
    }
  }

 private:
  pid_t child_ = -1;
  int to_ = -1;
  int from_ = -1;
};
