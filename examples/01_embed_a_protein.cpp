// SPDX-License-Identifier: MIT
// Embeds three proteins with the bundled ESM-2 and finds out which of them are alike.
#include <examples/backend.hpp>
#include <plmscope/plm/collect.hpp>

#include <cmath>
#include <cstdio>
#include <string_view>
#include <vector>

int main() {
  constexpr std::string_view names[] = {"haemoglobin alpha", "haemoglobin beta",
                                        "bacteriorhodopsin"};
  constexpr std::string_view sequences[] = {
      "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDL"
      "HAHKLRVDPVNFKLLSHCLLVTLAAHLPAEFTPAVHASLDKFLASVSTVLTSKYR",
      "MVHLTPEEKSAVTALWGKVNVDEVGGEALGRLLVVYPWTQRFFESFGDLSTPDAVMGNPKVKAHGKKVLGAFSDGLAHLDNLKGTFA"
      "TLSELHCDKLHVDPENFRLLGNVLVCVLAHHFGKEFTPPVQAAYQKVVAGVANALAHKYH",
      "MLELLPTAVEGVSQAQITGRPEWIWLALGTALMGLGTLYFLVKGMGVSDPDAKKFYAITTLVPAIAFTMYLSMLLGYGLTMVPFGGEQ"
      "NPIYWARYADWLFTTPLLLLDLALLVDADQGTILALVGADGIMIGTGLVGALTKVYSYRFVWWAISTAAMLYILYVLFFGFTSKAESM"
      "RPEVASTFKVLRNVTVVLWSAYPVVWLIGSEGAGIVPLNIETLLFMVLDVSAKVGFGLILLRSRAIFGEAEAPEPSAGDGAAATSD"};

  auto esm = plmscope::esm2<backend>::load("examples/data/esm2_mini");
  plmscope::packed_batch batch;
  for (const auto& s : sequences) batch.add(s);
  plmscope::collect keep({plmscope::resid_post{2}, plmscope::final_norm{}});
  esm.forward(batch, keep);
  std::printf("%s: %zu layers, width %zu\n", esm.identity().name.c_str(), esm.layers(),
              esm.d_model());

  // Row r of the states is token r of the batch; the first and last token of a protein are special.
  const std::size_t d = esm.d_model();
  const auto mean_state = [&](const plmscope::site& at, std::size_t protein) {
    std::vector<double> mean(d, 0.0);
    const std::size_t first = batch.first_row(protein) + 1;
    const std::size_t residues = batch.length(protein) - 2;
    std::size_t j = 0;
    for (const float x : keep.states(at).subspan(first * d, residues * d)) {
      mean[j++ % d] += static_cast<double>(x) / static_cast<double>(residues);
    }
    return mean;
  };
  const auto dot = [&](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += a[j] * b[j];
    return sum;
  };
  for (std::size_t a = 0; a < 3; ++a) {
    const auto x = mean_state(plmscope::resid_post{2}, a);
    const auto y = mean_state(plmscope::final_norm{}, a);
    std::printf("%-18s %zu residues, norm of the mean state: %.1f after block 2, %.1f at the end\n",
                names[a].data(), batch.length(a) - 2, std::sqrt(dot(x, x)), std::sqrt(dot(y, y)));
  }
  for (std::size_t a = 0, b = 1; a < 3; ++a, b = (a + 1) % 3) {
    const auto x = mean_state(plmscope::final_norm{}, a);
    const auto y = mean_state(plmscope::final_norm{}, b);
    std::printf("cosine %.2f  %s, %s\n", dot(x, y) / std::sqrt(dot(x, x) * dot(y, y)),
                names[a].data(), names[b].data());
  }
  return 0;
}
