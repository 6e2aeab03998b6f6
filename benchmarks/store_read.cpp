// SPDX-License-Identifier: MIT
// Reading a store of activations with every checksum checked, beside plain reading of its bytes
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/activation_store_writer.hpp>
#include <plmscope/acts/store_rows.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace {

using namespace plmscope;

struct setting {
  std::size_t megabytes = 512;
  std::size_t width = 1280;
  std::size_t rounds = 9;
  std::size_t threads = 0;
  bool json = false;
  std::filesystem::path folder = std::filesystem::temp_directory_path();
};

// Wall time; with --processor-time that of all our threads, for machines that others use too.
bool by_processor = false;
double seconds_of(const std::function<void()>& work) {
  if (by_processor) {
    const std::clock_t start = std::clock();
    work();
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  }
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> x) {
  std::ranges::sort(x);
  return x[x.size() / 2];
}

std::vector<protein_sequence> proteins_of(std::size_t rows) {
  std::vector<protein_sequence> out;
  const rng random(1);
  while (rows > 0) {
    const std::size_t n = std::min<std::size_t>(rows, 50 + random.below(out.size(), 600));
    out.push_back({"protein" + std::to_string(out.size()), "", std::string(n, 'A')});
    rows -= n;
  }
  return out;
}

void make_store(const std::filesystem::path& folder, const setting& s, dtype numbers) {
  const std::size_t rows = s.megabytes * 1'000'000 / (s.width * dtype_bits(numbers) / 8);
  const auto proteins = proteins_of(rows);
  store_manifest m{.model = "noise",
                   .model_hash = "none",
                   .sites = {{"rows", s.width}},
                   .numbers = numbers,
                   .proteins = proteins.size(),
                   .residues = rows,
                   .proteins_hash = hash_proteins(proteins),
                   .shard_rows = 0};
  m.shard_rows = shard_rows_for(m, std::size_t{64} << 20);
  std::vector<float> noise(4096 * s.width);
  const rng random(2);
  for (std::size_t i = 0; i < noise.size(); ++i)
    noise[i] = static_cast<float>(random.uniform(i)) - 0.5f;
  activation_store_writer store(folder, m, proteins, {0, proteins.size()});
  for (const auto& range : store.missing()) {
    shard_image shard(m, proteins, range);
    for (std::size_t left = shard.layout().rows; left > 0;) {
      const std::size_t n = std::min<std::size_t>(left, 4096);
      shard.put(0, std::span<const float>(noise).first(n * s.width));
      left -= n;
    }
    store.add(shard);
  }
}

std::uint64_t sum_of(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  const auto* words = reinterpret_cast<const std::uint64_t*>(bytes.data());
  for (std::size_t i = 0; i < bytes.size() / 8; ++i) sum += words[i];
  return sum;
}

// The rows of a site in one shard, as they lie there.
std::span<const std::byte> stored(const activation_store& store, const store_shard& shard) {
  return shard.bytes().subspan(shard.layout().site_begin[0],
                               shard.rows() * store.manifest().row_bytes());
}

/// Ours and the plain way, in turns; prints both and the median of the ratios of a round.
double compare(const setting& s, const char* name, double gigabytes,
               const std::function<void()>& ours, const std::function<void()>& plain) {
  ours();
  plain();
  std::vector<double> ratios, a, b;
  for (std::size_t round = 0; round < s.rounds; ++round) {
    a.push_back(seconds_of(ours));
    b.push_back(seconds_of(plain));
    ratios.push_back(b.back() / a.back());
  }
  const auto [least, most] = std::ranges::minmax(ratios);
  if (s.json) {
    std::printf(
        "{\"contest\": \"%s\", \"ours_gb_s\": %.2f, \"plain_gb_s\": %.2f, \"ratio\": %.3f}\n", name,
        gigabytes / median(a), gigabytes / median(b), median(ratios));
  } else {
    std::printf("%-12s checked %6.2f GB/s, plain %6.2f GB/s, ratio by round %.2f .. %.2f\n", name,
                gigabytes / median(a), gigabytes / median(b), least, most);
    std::printf("ratio store_%s %.2f\n", name, median(ratios));
  }
  return median(ratios);
}

double measure(const setting& s, dtype numbers, const std::filesystem::path& folder) {
  cpu be(s.threads == 0 ? available_threads() : s.threads);
  make_store(folder, s, numbers);
  const auto store = activation_store::open(folder);
  const std::string type = numbers == dtype::f32 ? "f32" : "bf16";
  double gigabytes = 0;
  for (const auto& shard : store.shards())
    gigabytes += static_cast<double>(stored(store, shard).size()) * 1e-9;
  volatile std::uint64_t sink = 0;
  double worst = 1e9;

  // Looking at every byte: checksums beside a sum.
  constexpr std::size_t piece = std::size_t{1} << 20;
  const auto over_pieces = [&](const auto& work) {
    for (const auto& shard : store.shards()) {
      const std::size_t end = shard.layout().checksums_begin;
      be.pool().run((end + piece - 1) / piece,
                    [&](std::size_t t) { work(shard, t * piece, std::min(end, (t + 1) * piece)); });
    }
  };
  if (numbers == dtype::bf16) {
    worst = compare(
        s, "verify", gigabytes,
        [&] {
          over_pieces([](const store_shard& x, std::size_t a, std::size_t b) { x.verify(a, b); });
        },
        [&] {
          over_pieces([&](const store_shard& x, std::size_t a, std::size_t b) {
            sink = sink + sum_of(x.bytes().subspan(a, b - a));
          });
        });
  }

  // Reading rows into batches of floats: with checksums, and the same copy or conversion without.
  activation_store_reader<> reader(store, "rows");
  activation_batch<cpu> batch;
  matrix<float, cpu> plain(be, 8192, s.width);
  worst = std::min(
      worst, compare(
                 s, ("read_" + type).c_str(), gigabytes,
                 [&] {
                   reader.rewind(0);
                   while (reader.read(be, batch)) continue;
                 },
                 [&] {
                   const std::size_t row = store.manifest().row_bytes();
                   const std::size_t tile = (std::size_t{1} << 18) / s.width;
                   for (const auto& shard : store.shards()) {
                     const auto bytes = stored(store, shard);
                     for (std::size_t first = 0; first < shard.rows(); first += 8192) {
                       const std::size_t rows = std::min<std::size_t>(8192, shard.rows() - first);
                       be.pool().run((rows + tile - 1) / tile, [&](std::size_t t) {
                         const std::size_t n = std::min(tile, rows - t * tile);
                         const std::byte* from = bytes.data() + (first + t * tile) * row;
                         float* to = plain.data() + t * tile * s.width;
                         if (numbers == dtype::f32) {
                           std::memcpy(to, from, n * row);
                         } else {
                           to_float(std::span(reinterpret_cast<const bfloat16*>(from), n * s.width),
                                    std::span(to, n * s.width));
                         }
                       });
                     }
                   }
                 }));

  // Rows for training, mixed over the whole store.
  const double sequential = median([&] {
    std::vector<double> t;
    for (int i = 0; i < 3; ++i) {
      t.push_back(seconds_of([&] {
        reader.rewind(0);
        while (reader.read(be, batch)) continue;
      }));
    }
    return t;
  }());
  store_rows<> shuffled(store, "rows", 1, {.buffer_rows = std::size_t{1} << 15});
  const auto epoch = [&] {
    for (std::size_t done = 0; done < store.rows(); done += 2048) shuffled.next(be, 2048);
  };
  epoch();
  std::vector<double> t;
  for (int i = 0; i < 3; ++i) t.push_back(seconds_of(epoch));
  const auto rows = static_cast<double>(store.rows());
  std::printf(s.json
                  ? "{\"rows\": \"%s\", \"sequential_rows_s\": %.0f, \"shuffled_rows_s\": %.0f}\n"
                  : "%s: %.0f rows/s in order, %.0f rows/s shuffled into batches of 2,048\n",
              type.c_str(), rows / sequential, rows / median(t));
  return worst;
}

// Both from the disk: the system is asked to forget the file first.
void measure_cold(const setting& s, const std::filesystem::path& folder) {
  const auto forget = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const int fd = ::open(entry.path().c_str(), O_RDONLY);
      if (fd < 0) continue;
      ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
      ::close(fd);
    }
  };
  cpu be(s.threads == 0 ? available_threads() : s.threads);
  std::vector<double> a, b;
  double gigabytes = 0;
  for (int round = 0; round < 3; ++round) {
    forget();
    a.push_back(seconds_of([&] {
      const auto store = activation_store::open(folder);
      gigabytes = static_cast<double>(store.bytes()) * 1e-9;
      activation_store_reader<> reader(store, "rows");
      activation_batch<cpu> batch;
      while (reader.read(be, batch)) continue;
    }));
    forget();
    b.push_back(seconds_of([&] {
      std::vector<std::byte> buffer(std::size_t{4} << 20);
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const regular_file file(entry.path());
        for (std::size_t at = 0; at < file.size(); at += buffer.size()) {
          file.read(at, std::span(buffer).first(std::min(buffer.size(), file.size() - at)));
        }
      }
    }));
  }
  std::printf(s.json ? "{\"cold\": \"disk\", \"ours_gb_s\": %.2f, \"plain_gb_s\": %.2f}\n"
                     : "from disk    checked %6.2f GB/s, plain %6.2f GB/s (read calls of 4 MiB)\n",
              gigabytes / median(a), gigabytes / median(b));
  if (!s.json) std::printf("ratio store_cold %.2f\n", median(b) / median(a));
}

int run(const setting& s) {
  const auto root = s.folder / ("plmscope_store_read_" + std::to_string(::getpid()));
  std::filesystem::create_directory(root);
  double worst = 0;
  try {
    worst = std::min(measure(s, dtype::bf16, root / "bf16"), measure(s, dtype::f32, root / "f32"));
    if (!by_processor) measure_cold(s, root / "bf16");
  } catch (...) {
    std::filesystem::remove_all(root);
    throw;
  }
  std::filesystem::remove_all(root);
  if (!s.json)
    std::printf("the worst of the first three, page cache warm:\nratio store_read %.2f\n", worst);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    setting s;
    for (int i = 1; i < argc; ++i) {
      const std::string_view flag = argv[i];
      const auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
      if (flag == "--megabytes") {
        s.megabytes = number();
      } else if (flag == "--width") {
        s.width = number();
      } else if (flag == "--rounds") {
        s.rounds = number();
      } else if (flag == "--threads") {
        s.threads = number();
      } else if (flag == "--folder" && i + 1 < argc) {
        s.folder = argv[++i];
      } else if (flag == "--processor-time") {
        by_processor = true;
      } else if (flag == "--json") {
        s.json = true;
      } else {
        std::fprintf(
            stderr,
            "flags: --megabytes --width --rounds --threads --folder --processor-time --json\n");
        return 2;
      }
    }
    return run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
