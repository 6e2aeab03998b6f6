// SPDX-License-Identifier: MIT
#pragma once

// Everything for the processor in one include. Left out on purpose: the reference backend
// (`backend/reference.hpp`, for tests), the product providers that need a library
// (`backend/cpu/gemm_onednn.hpp`, `backend/cpu/gemm_openblas.hpp`), the GPU (`cuda.cuh`, for nvcc) and
// the bridge to xtensor (`bridge/xtensor.hpp`).

#include <plmscope/acts/activation_memory_reader.hpp>
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/adjacent_rows.hpp>
#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/mean_pooled.hpp>
#include <plmscope/acts/merge_stores.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/acts/store_rows.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/npy.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/plm/any_model.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/checkpoint.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/steer/splice.hpp>
#include <plmscope/train/progress_bar.hpp>
#include <plmscope/train/trainer.hpp>
#include <plmscope/version.hpp>
