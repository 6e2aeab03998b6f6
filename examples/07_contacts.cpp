// SPDX-License-Identifier: MIT
// Which residues does the model couple? The bundled one has no contact head, so the categorical
// Jacobian asks what every mutation changes elsewhere. Writes a picture.
#include <examples/backend.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/plm/categorical_jacobian.hpp>
#include <plmscope/report/heat_map.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

int main() {
  // Two zinc fingers, in each of which two cysteines and two histidines hold the metal.
  const std::string sequence = "ERPYACPVESCDRRFSRSDELTRHIRIHTGQKPFQCRICMRNFSRSDHLTTHIRTHTGEK";
  auto esm = plmscope::esm2<backend>::load("examples/data/esm2_mini");
  const auto jacobian = plmscope::compute_categorical_jacobian(esm, plmscope::tokenize(sequence));
  const plmscope::contact_map map = plmscope::contacts_of(jacobian);

  std::vector<std::tuple<float, std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < map.residues(); ++i) {
    for (std::size_t j = i + 20; j < map.residues(); ++j) pairs.emplace_back(-map(i, j), i, j);
  }
  std::sort(pairs.begin(), pairs.end());
  std::printf("%zu residues, strongest couplings at least 20 apart:\n", map.residues());
  for (std::size_t k = 0; k < 6; ++k) {
    const auto [score, i, j] = pairs[k];
    std::printf("  %c%-3zu %c%-3zu\n", sequence[i], i + 1, sequence[j], j + 1);
  }
  const auto picture = std::filesystem::temp_directory_path() / "plmscope_contacts.svg";
  plmscope::write_file_atomically(picture,
                                  svg_of(plmscope::heat_map{.title = "Zinc finger",
                                                            .row_axis = "residue",
                                                            .column_axis = "residue",
                                                            .columns = map.residues(),
                                                            .values = map.scores(),
                                                            .high = -std::get<0>(pairs[10]),
                                                            .row_names = {},
                                                            .low_name = "no coupling",
                                                            .high_name = "strong"}));
  std::printf("picture: %s in the folder for temporary files\n", picture.filename().c_str());
  return 0;
}
