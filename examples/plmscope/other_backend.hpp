// SPDX-License-Identifier: MIT
#pragma once

// `plmscope --backend cuda`: a program is built for one backend; the other one lies beside it.

/// Where --backend names the other one, replaces this program by that one (and does not return).
/// Errors: cli.106 when it was not built.
void run_other_backend(int argc, char** argv);
