// SPDX-License-Identifier: MIT
#pragma once

// The one place that states the version; CMakeLists.txt parses these three lines.
#define PLMSCOPE_VERSION_MAJOR 0
#define PLMSCOPE_VERSION_MINOR 1
#define PLMSCOPE_VERSION_PATCH 0
