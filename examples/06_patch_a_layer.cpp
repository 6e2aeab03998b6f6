// SPDX-License-Identifier: MIT
// Where does the model keep what it knows of a signal peptide? States of a protein that has one are
// patched, block by block, into a run on the same protein with its hydrophobic core broken.
#include <examples/backend.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/lm_scores.hpp>

#include <cstdio>
#include <span>
#include <string>
#include <vector>

int main() {
  // Human insulin: residues 1 to 24 are the signal peptide. Leucine 9 is masked.
  const std::string whole = "MALWMRLL<mask>LLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKT";
  const std::string broken = "MADWMRDL<mask>DDADDADWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKT";
  auto esm = plmscope::esm2<backend>::load("examples/data/esm2_mini");
  plmscope::packed_batch intact, damaged;
  intact.add(whole);
  damaged.add(broken);

  // ln p(leucine) at the masked residue, token 9 of the sequence.
  const auto leucine = [&](const plmscope::packed_batch& batch, auto&& hook) {
    plmscope::collect keep({plmscope::logits{}});
    esm.forward(batch, plmscope::hooks{hook, keep});
    const std::span<const float> row = keep.states(plmscope::logits{}).subspan(9 * 33, 33);
    return -plmscope::cross_entropy(row, plmscope::alphabet::token_of('L'));
  };
  plmscope::edits<backend> nothing({});
  const double high = leucine(intact, nothing);
  const double low = leucine(damaged, nothing);
  std::printf("ln p(leucine 9): intact %.2f, broken %.2f\n", high, low);

  std::vector<plmscope::site> sites;
  for (std::size_t l = 0; l < esm.layers(); ++l) sites.push_back(plmscope::resid_post{l});
  plmscope::collect clean(sites);
  esm.forward(intact, clean);
  for (const plmscope::site& at : sites) {
    const auto states = clean.states(at);
    const std::size_t d = esm.width(at);
    // At the masked residue alone, and at all others.
    std::vector<std::size_t> rest;
    for (std::size_t t = 0; t < intact.rows(); ++t) {
      if (t != 9) rest.push_back(t);
    }
    std::vector<float> other(states.begin(), states.begin() + static_cast<std::ptrdiff_t>(9 * d));
    other.insert(other.end(), states.begin() + static_cast<std::ptrdiff_t>(10 * d), states.end());
    plmscope::edits<backend> here(
        {plmscope::set_state(at, states.subspan(9 * d, d), plmscope::tokens::at({9}))});
    plmscope::edits<backend> around(
        {plmscope::patch_states(at, other, rest.size(), plmscope::tokens::at(rest))});
    std::printf("%-12s restored by the masked residue %3.0f %%, by all others %3.0f %%\n",
                to_string(at).c_str(), 100 * (leucine(damaged, here) - low) / (high - low),
                100 * (leucine(damaged, around) - low) / (high - low));
  }
  return 0;
}
