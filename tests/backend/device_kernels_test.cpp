// SPDX-License-Identifier: MIT
// The kernels of backend/device on the emulated device, in every order of their threads and at the
// edges of what they are written for. That a mistake in a kernel shows there is tested first.
#include <tests/backend/everything.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace compare;
using emulation::order;

const std::vector<order> orders{order::ascending, order::descending, order::inside_out};

// A kernel in which every thread fetches a number from the next one of its block, with and without
// a mistake.
enum class mistake {
  none,
  no_wait_after_write,  // reads before its neighbour has written
  no_wait_after_read,   // writes what its neighbour has yet to read
  waits_for_team_only,  // while threads of other teams write
  another_block,        // reads what another block of the same launch writes
  half_of_them_wait,
  half_of_them_leave,
  half_of_them_tally,
  too_much_shared
};

struct round_kernel {
  mistake made;
  float* out;

  template <class Group>
  void operator()(Group& g) const {
    const std::size_t mine = g.index() * g.size() + g.rank();
    float* const places = g.template shared<float>(made == mistake::too_much_shared ? 2 * g.size()
                                                                                    : g.size());
    places[g.rank()] = static_cast<float>(mine + 1);
    if (made == mistake::waits_for_team_only) {
      g.team_sum(0.0f);
    } else if (made == mistake::half_of_them_wait) {
      if (g.rank() % 2 == 0) g.sync();
    } else if (made == mistake::half_of_them_leave && g.rank() % 2 == 1) {
      return;
    } else if (made == mistake::half_of_them_tally) {
      unsigned one = 0;
      if (g.rank() % 2 == 0) g.tally(&one, 0, true);
      g.sync();
    } else if (made != mistake::no_wait_after_write) {
      g.sync();
    }
    const float read = places[(g.rank() + 1) % g.size()];
    if (made != mistake::no_wait_after_read) g.sync();
    places[g.rank()] = 0;
    out[mine] = read;
    if (made == mistake::another_block && g.index() > 0) out[mine] += out[mine - g.size()];
  }
};

struct waits_unannounced {
  static constexpr bool cooperative = false;
  template <class Group>
  void operator()(Group& g) const {
    g.sync();
  }
};

// What a kernel leaves behind in each order of its threads.
template <class B>
std::vector<byte_string> in_every_order(B& be, mistake made) {
  std::vector<byte_string> results;
  const std::size_t threads = B::runtime_type::template threads_per_block<round_kernel>();
  for (const order o : orders) {
    be.runtime().schedule = o;
    matrix<float, B> out(be, 3, threads);
    be.launch(3, threads * sizeof(float), round_kernel{made, out.data()});
    results.push_back(bytes(be, out));
  }
  return results;
}

TEST_CASE("what is wrong with a kernel shows") {
  for_each_device([]<class B>(B be) {
    const auto right = in_every_order(be, mistake::none);
    CHECK(right[1] == right[0]);
    CHECK(right[2] == right[0]);
    for (const mistake made : {mistake::no_wait_after_write, mistake::no_wait_after_read,
                               mistake::waits_for_team_only, mistake::another_block}) {
      INFO("mistake ", static_cast<int>(made));
      const auto wrong = in_every_order(be, made);
      CHECK((wrong[1] != wrong[0] || wrong[2] != wrong[0]));
    }
    const auto says = [&](mistake made, const char* what) {
      CHECK_THROWS_WITH_AS(in_every_order(be, made), what, std::logic_error);
    };
    says(mistake::half_of_them_wait, "threads of a block wait in different places of a kernel");
    says(mistake::half_of_them_leave, "some threads of a block wait for others that do not come");
    says(mistake::half_of_them_tally, "some threads of a block wait for others that do not come");
    says(mistake::too_much_shared, "a kernel takes more shared memory than it asked for");
    CHECK_THROWS_WITH_AS(be.launch(1, 0, waits_unannounced{}),
                         "a kernel that calls itself not cooperative waits", std::logic_error);
    CHECK(in_every_order(be, mistake::none) == right);  // nothing of it stays
  });
}

TEST_CASE("every primitive has the same bits for every order of the threads") {
  for_each_device([]<class B>(B be) {
    const everything_sizes s{61, 83, 1100};
    const auto want = everything(be, s);
    for (const order o : {order::descending, order::inside_out}) {
      be.runtime().schedule = o;
      const auto got = everything(be, s);
      REQUIRE(got.size() == want.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        INFO(want[i].first, ", order ", static_cast<int>(o));
        CHECK(got[i].second == want[i].second);
      }
    }
  });
}

// Rows on some of which a threshold found from maxima of groups is far off, or does not exist.
double row_number(std::size_t row, std::size_t i) {
  const double u = number(row, i);
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  switch (row) {
    case 0: return u;
    case 1: return 0.25;                                  // all equal
    case 2: return -0.25;                                 // all equal, none positive
    case 3: return nan;
    case 4: return std::round(3 * u);                     // many ties
    case 5: return i % 64 == 5 ? 10 + u : u;              // one group has the largest
    case 6: return std::abs(u) > 0.01 ? nan : u;          // hardly any number
    case 7: return i % 2 == 0 ? 0.5 : -0.5;               // equal magnitudes
    default: return u > 0.9 ? std::numeric_limits<double>::infinity() : u;
  }
}

template <class Order, class B, class Cpu>
void check_rows(B& be, Cpu& cpu, std::size_t cols, std::size_t k) {
  using real = typename B::real;
  const auto entry = [&](std::size_t i) { return row_number(i / cols, i % cols); };
  codes<B> fast(be, cols);
  codes<Cpu> want(cpu, cols);
  be.top_k_rows(const_view<B>(matrix_of<real>(be, 9, cols, entry)), k, Order{}, fast);
  cpu.top_k_rows(const_view<Cpu>(matrix_of<real>(cpu, 9, cols, entry)), k, Order{}, want);
  INFO(cols, " columns, k ", k);
  CHECK(same_codes(to_host(be, fast), to_host(cpu, want)));
}

TEST_CASE("top_k_rows selects what the processor selects, in long rows and every order") {
  for_each_device([]<class B>(B be) {
    plmscope::basic_cpu<typename B::real, plmscope::eigen_gemm> cpu(2);
    // 8192 columns are the least for which k = 1024 looks at maxima of groups.
    for (const std::size_t cols : sizes{5000, 8192}) {
      for (const std::size_t k : sizes{1, 2, 63, 64, 65, 300, 1024, 1500}) {
        check_rows<plmscope::by_value>(be, cpu, cols, k);
        check_rows<plmscope::by_magnitude>(be, cpu, cols, k);
      }
    }
    for (const order o : orders) {
      be.runtime().schedule = o;
      INFO("order ", static_cast<int>(o));
      for (const std::size_t cols : sizes{40, 300, 1056, 5000}) {
        check_rows<plmscope::by_magnitude>(be, cpu, cols, 30);
      }
    }
  });
}

TEST_CASE("sparse_backward with features of many chunks") {
  for_each_device([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    constexpr std::size_t rows = 1300;
    constexpr std::size_t features = 9;
    constexpr std::size_t width = 70;
    // Entries of a feature: none, one, at both sides of one and of two chunks, in every row.
    const std::size_t fires[features] = {0, rows, 1, 255, 256, 257, 512, 513, 0};
    host_codes<real> z;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t f = 0; f < features; ++f) {
        if (r * 7 % rows >= fires[f]) continue;
        z.ids.push_back(static_cast<std::uint32_t>(f));
        z.values.push_back(static_cast<real>(number(1, z.ids.size())));
      }
      z.offsets.push_back(static_cast<std::int64_t>(z.ids.size()));
    }
    codes<B> fast(be, features);
    codes<reference> exact(naive, features);
    set_codes(be, fast, z);
    set_codes(naive, exact, z);
    codes_by_feature<B> t;
    codes_by_feature<reference> exact_t;
    be.transpose(fast, t);
    naive.transpose(exact, exact_t);
    for (std::size_t f = 0; f < features; ++f) {
      REQUIRE(exact_t.offsets()[f + 1] - exact_t.offsets()[f] ==
              static_cast<std::int64_t>(fires[f]));
    }
    // One number per entry, and where the upper bound of a device is larger, what may stand there.
    const std::size_t bound_of_entries = fast.entries();
    twin<B> dz(be, naive, 1, bound_of_entries, false, numbers::plain, 2);
    twin<B> g(be, naive, rows, width, true, numbers::plain, 3);
    twin<B> x(be, naive, rows, width, true, numbers::plain, 4);
    const const_view<B> values(fast.values(), bound_of_entries);
    const const_view<reference> exact_values(exact.values(), exact.entries());
    for (const double beta : {0.0, 1.0, 0.5}) {
      std::vector<byte_string> first;
      for (const order o : orders) {
        be.runtime().schedule = o;
        INFO("beta ", beta, ", order ", static_cast<int>(o));
        twin<B> decoder(be, naive, features, width, true, numbers::plain, 5);
        twin<B> encoder(be, naive, features, width, true, numbers::plain, 6);
        twin<B> bias(be, naive, 1, features, true, numbers::plain, 7);
        be.sparse_backward(t, values, dz.fast(), g.fast(), x.fast(), decoder.fast(),
                           encoder.fast(), bias.fast(), static_cast<real>(beta));
        naive.sparse_backward(exact_t, exact_values, const_view<reference>(dz.exact()), g.exact(),
                              x.exact(), decoder.exact().all(), encoder.exact().all(),
                              bias.exact().all(), beta);
        // No term is above 1.
        const auto limit = [&](std::size_t f) {
          return bound<real>(fires[f] + 2, static_cast<double>(fires[f] + 1));
        };
        decoder.check([&](std::size_t f, std::size_t) { return limit(f); });
        encoder.check([&](std::size_t f, std::size_t) { return limit(f); });
        bias.check([&](std::size_t, std::size_t f) { return limit(f); });
        const std::vector<byte_string> got{bytes(be, decoder.fast()), bytes(be, encoder.fast()),
                                           bytes(be, bias.fast())};
        if (first.empty()) first = got;
        CHECK(got == first);
      }
    }
  });
}

// Worst difference from the reference, of heads [.., head_dim] over sequences of such lengths.
template <class B>
double attention_error(B& be, std::size_t heads, std::size_t head_dim, const sizes& lengths) {
  std::vector<std::int64_t> offsets{0};
  for (const std::size_t n : lengths) {
    offsets.push_back(offsets.back() + static_cast<std::int64_t>(n));
  }
  const auto rows = static_cast<std::size_t>(offsets.back());
  const std::size_t longest = *std::max_element(lengths.begin(), lengths.end());
  reference naive;
  twin<B> q(be, naive, rows, heads * head_dim, true, numbers::plain, 1);
  twin<B> k(be, naive, rows, heads * head_dim, false, numbers::plain, 2);
  twin<B> v(be, naive, rows, heads * head_dim, true, numbers::plain, 3);
  twin<B> out(be, naive, rows, heads * head_dim, true);
  be.attention(q.fast(), k.fast(), v.fast(), head_dim, vector_of(be, offsets), longest, out.fast());
  naive.attention(q.exact(), k.exact(), v.exact(), head_dim, vector_of(naive, offsets), longest,
                  out.exact());
  out.check([](std::size_t, std::size_t) { return 1.0; });  // what stands beside it
  const std::vector<typename B::real> got = to_host(be, out.fast());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - out.exact().data()[i]));
  }
  return worst;
}

TEST_CASE("attention with every width of a head and every length up to 100") {
  for_each_device([]<class B>(B be) {
    const auto limit = [](std::size_t head_dim) {
      return sizeof(typename B::real) == 4 ? 1e-6 + 1e-6 * std::sqrt(static_cast<double>(head_dim))
                                           : 1e-14;
    };
    for (std::size_t head_dim = 1; head_dim <= 128; ++head_dim) {
      INFO("head of ", head_dim);
      CHECK(attention_error(be, 2, head_dim, {1 + head_dim * 37 % 100, 1, 0, 33, head_dim % 19}) <
            limit(head_dim));
    }
    sizes lengths;
    for (std::size_t n = 1; n <= 100; ++n) lengths.push_back(n * 59 % 101);
    CHECK(attention_error(be, 1, 12, lengths) < limit(12));
    CHECK_THROWS_WITH_AS(attention_error(be, 1, 129, {3}), doctest::Contains("backend.105"),
                         plmscope::error);
  });
}

}  // namespace
