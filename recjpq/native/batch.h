// A call: several score tables, each with its own filters, over one catalogue.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "catalogue.h"
#include "kernels.h"
#include "pool.h"

namespace recjpq {

using Items = std::span<const int32_t>;  // in any order, repeats allowed

struct Batch {
  const float* tables;  // (num_rows, M, V), finite
  int64_t num_rows;
  int num_sub_ids;
  int64_t k;
  std::vector<std::optional<Items>> exclude;  // per row
  std::vector<std::optional<Items>> allow;    // per row
  const bool* bitmap = nullptr;               // (N,), for all rows
  bool plain = false;                         // scan everything, without bounds, to measure what these are worth
};

// Whether all are from 0 to num_items - 1.
bool all_below(Items items, int64_t num_items);

// The row of the first table with an entry that is NaN or infinite, or -1.
int64_t first_row_not_finite(const float* tables, int64_t num_rows, int64_t row_size);

// One result per row. With several threads, rows are shared among them; a lone row's pages are.
std::vector<std::vector<Scored>> search_batch(const Catalogue& catalogue, const Batch& batch, const Kernels& kernels,
                                              Pool& pool);

}  // namespace recjpq
