// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// The rules of the io layer. 10x to 12x safetensors, 14x to 17x other weights files, 2xx FASTA, 3xx tables, 4xx npy, 5xx files and gzip.
namespace rules {

// clang-format off
inline constexpr error_rule safetensors_too_small{"io.101", error_kind::malformed, "a safetensors file begins with an 8-byte header length"};
inline constexpr error_rule safetensors_header_empty{"io.102", error_kind::malformed, "a safetensors header holds at least {}"};
inline constexpr error_rule safetensors_header_length{"io.103", error_kind::malformed, "the safetensors header must end inside the file"};
inline constexpr error_rule safetensors_header_too_large{"io.104", error_kind::resource, "a safetensors header has at most 100,000,000 bytes"};
inline constexpr error_rule safetensors_utf8{"io.105", error_kind::malformed, "the safetensors header must be valid UTF-8"};
inline constexpr error_rule safetensors_json{"io.106", error_kind::malformed, "the safetensors header must be one JSON object of tensors"};
inline constexpr error_rule safetensors_duplicate_key{"io.107", error_kind::malformed, "a key stands once in a safetensors header"};
inline constexpr error_rule safetensors_too_many{"io.108", error_kind::resource, "a safetensors file holds at most 1,048,576 tensors"};
inline constexpr error_rule safetensors_metadata{"io.109", error_kind::malformed, "__metadata__ maps text to text"};
inline constexpr error_rule safetensors_metadata_too_large{"io.110", error_kind::resource, "__metadata__ has at most 16 MiB"};
inline constexpr error_rule safetensors_name{"io.111", error_kind::malformed, "a tensor name has at most 1,024 bytes and no NUL"};
inline constexpr error_rule safetensors_dtype{"io.112", error_kind::malformed, "a tensor has a dtype that the format knows"};
inline constexpr error_rule safetensors_rank{"io.113", error_kind::malformed, "a tensor has at most 8 dimensions"};
inline constexpr error_rule safetensors_number{"io.114", error_kind::malformed, "shapes and offsets are whole numbers below 2^64"};
inline constexpr error_rule safetensors_overflow{"io.115", error_kind::malformed, "the size of a tensor must not overflow"};
inline constexpr error_rule safetensors_misaligned{"io.116", error_kind::malformed, "a tensor fills whole bytes"};
inline constexpr error_rule safetensors_offsets{"io.117", error_kind::malformed, "data_offsets must not run backwards"};
inline constexpr error_rule safetensors_size{"io.118", error_kind::malformed, "data_offsets must span exactly what dtype and shape need"};
inline constexpr error_rule safetensors_overlap{"io.119", error_kind::malformed, "tensors must not overlap"};
inline constexpr error_rule safetensors_hole{"io.120", error_kind::malformed, "no byte may lie between tensors"};
inline constexpr error_rule safetensors_trailing{"io.121", error_kind::malformed, "no byte may follow the last tensor"};
inline constexpr error_rule safetensors_truncated{"io.122", error_kind::malformed, "every tensor must end inside the file"};
inline constexpr error_rule safetensors_missing{"io.123", error_kind::mismatch, "the file must hold the tensor that is asked for"};
inline constexpr error_rule safetensors_shape{"io.124", error_kind::mismatch, "a tensor must have the shape that its reader expects"};
inline constexpr error_rule safetensors_conversion{"io.125", error_kind::mismatch, "a tensor's dtype must convert to the numbers asked for"};
inline constexpr error_rule safetensors_range{"io.126", error_kind::numeric, "a number must fit the type it is converted to"};
inline constexpr error_rule safetensors_not_finite{"io.127", error_kind::numeric, "weights must be finite"};
inline constexpr error_rule safetensors_destination{"io.128", error_kind::usage, "the destination must have as many entries as the tensor"};
inline constexpr error_rule safetensors_add{"io.129", error_kind::usage, "a tensor to write needs a new valid name and data of its shape"};

inline constexpr error_rule json_syntax{"io.140", error_kind::malformed, "a JSON file follows the grammar of JSON"};
inline constexpr error_rule json_encoding{"io.141", error_kind::malformed, "a JSON file is valid UTF-8"};
inline constexpr error_rule weights_format{"io.142", error_kind::malformed, "a weights file is safetensors, a torch file or an index of shards"};
inline constexpr error_rule shard_index{"io.143", error_kind::malformed, "an index of shards maps every tensor to a plain file name beside it"};
inline constexpr error_rule shard_missing{"io.144", error_kind::io, "every shard that an index names lies beside the index"};
inline constexpr error_rule shard_mismatch{"io.145", error_kind::mismatch, "index and shards name the same tensors, each once"};
inline constexpr error_rule zip_structure{"io.150", error_kind::malformed, "the directory of a zip archive agrees with its entries and with the file"};
inline constexpr error_rule zip_truncated{"io.151", error_kind::malformed, "a zip archive ends with its directory"};
inline constexpr error_rule zip_method{"io.152", error_kind::malformed, "the entries of a torch file are stored, neither compressed nor encrypted"};
inline constexpr error_rule zip_name{"io.153", error_kind::malformed, "an entry of an archive has a plain relative name, each once"};
inline constexpr error_rule zip_too_many{"io.154", error_kind::resource, "an archive holds at most 1,048,576 entries"};
inline constexpr error_rule pickle_truncated{"io.160", error_kind::malformed, "a pickle ends with STOP inside its file"};
inline constexpr error_rule pickle_opcode{"io.161", error_kind::malformed, "a torch file uses the opcodes of pickle that torch.save writes"};
inline constexpr error_rule pickle_stack{"io.162", error_kind::malformed, "every opcode of a pickle finds on the stack what it needs"};
inline constexpr error_rule pickle_memo{"io.163", error_kind::malformed, "a pickle reads memo entries that it has written"};
inline constexpr error_rule pickle_limit{"io.164", error_kind::resource, "a pickle stays below the limits of size, objects and nesting"};
inline constexpr error_rule pickle_text{"io.165", error_kind::malformed, "texts of a pickle are valid UTF-8, its names plain"};
inline constexpr error_rule pickle_forbidden{"io.166", error_kind::malformed, "a file of weights names nothing that acts on the system"};
inline constexpr error_rule pickle_call{"io.167", error_kind::malformed, "a file of weights calls only what describes tensors and plain values"};
inline constexpr error_rule pickle_type{"io.168", error_kind::mismatch, "a value of a torch file has the type or the member asked for"};
inline constexpr error_rule torch_layout{"io.170", error_kind::malformed, "a torch file has one data.pkl and the bytes of every storage"};
inline constexpr error_rule torch_unsupported{"io.171", error_kind::malformed, "a torch file holds plain dense tensors written by torch.save"};
inline constexpr error_rule torch_storage{"io.172", error_kind::malformed, "a storage has a known number type and exactly the bytes of its numbers"};
inline constexpr error_rule torch_tensor{"io.173", error_kind::malformed, "a tensor lies inside its storage"};
inline constexpr error_rule torch_too_large{"io.174", error_kind::resource, "the tensors of a file are not many times larger than the file"};
inline constexpr error_rule torch_name{"io.175", error_kind::malformed, "every tensor of a torch file has a name of its own, at most 1,024 bytes"};

inline constexpr error_rule fasta_no_records{"io.201", error_kind::malformed, "a FASTA file holds at least one record"};
inline constexpr error_rule fasta_leading_text{"io.202", error_kind::malformed, "a FASTA file begins with '>'"};
inline constexpr error_rule fasta_empty_id{"io.203", error_kind::malformed, "every record needs an id right after '>'"};
inline constexpr error_rule fasta_empty_sequence{"io.204", error_kind::malformed, "every record needs at least one residue"};
inline constexpr error_rule fasta_duplicate_id{"io.205", error_kind::malformed, "an id stands once"};
inline constexpr error_rule residue_stop{"io.206", error_kind::malformed, "a stop '*' stands only at the end of a sequence"};
inline constexpr error_rule residue_gap{"io.207", error_kind::malformed, "a sequence has no gaps"};
inline constexpr error_rule residue_letter{"io.208", error_kind::malformed, "a sequence consists of amino-acid letters"};
inline constexpr error_rule residue_mask{"io.209", error_kind::malformed, "a sequence has no masked positions here"};
inline constexpr error_rule fasta_header_length{"io.210", error_kind::resource, "a FASTA header line has at most 65,536 bytes"};
inline constexpr error_rule sequence_length{"io.211", error_kind::resource, "a sequence is no longer than allowed"};

inline constexpr error_rule tsv_empty{"io.301", error_kind::malformed, "a table begins with a header line"};
inline constexpr error_rule tsv_column{"io.302", error_kind::malformed, "a table must have the columns that its reader needs, each once"};
inline constexpr error_rule tsv_ragged{"io.303", error_kind::malformed, "every line of a table has as many cells as its header"};
inline constexpr error_rule tsv_quote{"io.304", error_kind::malformed, "a quoted cell must be closed on its line"};
inline constexpr error_rule uniprot_no_rows{"io.305", error_kind::malformed, "a UniProt table holds at least one protein"};
inline constexpr error_rule uniprot_accession{"io.306", error_kind::malformed, "every protein needs an accession, each once"};
inline constexpr error_rule uniprot_length{"io.307", error_kind::malformed, "the Length column must agree with the sequence"};
inline constexpr error_rule uniprot_feature{"io.308", error_kind::malformed, "a feature reads KEY position, then /qualifier=\"value\""};
inline constexpr error_rule uniprot_key{"io.309", error_kind::malformed, "a feature column holds only its own feature key"};
inline constexpr error_rule uniprot_range{"io.310", error_kind::malformed, "a feature lies inside its sequence"};

inline constexpr error_rule npy_magic{"io.401", error_kind::malformed, "an npy file begins with \\x93NUMPY"};
inline constexpr error_rule npy_version{"io.402", error_kind::malformed, "an npy file has version 1, 2 or 3"};
inline constexpr error_rule npy_header_length{"io.403", error_kind::malformed, "an npy header ends inside the file and has at most 10,000 bytes"};
inline constexpr error_rule npy_literal{"io.404", error_kind::malformed, "an npy header is a dict of descr, fortran_order and shape"};
inline constexpr error_rule npy_object{"io.405", error_kind::malformed, "an npy file holds numbers, not pickled objects"};
inline constexpr error_rule npy_dtype{"io.406", error_kind::malformed, "an npy array has a plain number type"};
inline constexpr error_rule npy_shape{"io.407", error_kind::malformed, "an npy array has at most 32 dimensions and a size that fits"};
inline constexpr error_rule npy_truncated{"io.408", error_kind::malformed, "an npy file holds all entries of its shape"};
inline constexpr error_rule npy_conversion{"io.409", error_kind::mismatch, "an npy array's numbers must convert to the numbers asked for"};
inline constexpr error_rule npy_write{"io.410", error_kind::usage, "an npy array to write needs data of its shape"};
inline constexpr error_rule npy_rank{"io.411", error_kind::mismatch, "an npy array must have the number of dimensions asked for"};

inline constexpr error_rule file_open{"io.501", error_kind::io, "the file must open"};
inline constexpr error_rule file_not_regular{"io.502", error_kind::io, "the path must name a regular file"};
inline constexpr error_rule file_read{"io.503", error_kind::io, "the file must be readable to its end"};
inline constexpr error_rule file_too_large{"io.504", error_kind::resource, "a file read whole is no larger than allowed"};
inline constexpr error_rule file_write{"io.505", error_kind::io, "the file must be written, synced and renamed"};
inline constexpr error_rule gzip_truncated{"io.506", error_kind::malformed, "a gzip file must be complete"};
inline constexpr error_rule gzip_corrupt{"io.507", error_kind::malformed, "a gzip file must decompress to what its checksum says"};
inline constexpr error_rule gzip_expansion{"io.508", error_kind::resource, "a gzip file expands no more than allowed"};
inline constexpr error_rule text_encoding{"io.509", error_kind::malformed, "a text file is UTF-8 or ASCII, without NUL bytes"};
inline constexpr error_rule text_line_length{"io.510", error_kind::resource, "a line is no longer than allowed"};
// clang-format on

}  // namespace rules
}  // namespace plmscope::inline PLMSCOPE_ABI
