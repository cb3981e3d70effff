// Exact top-k by one pass over the codes.
#pragma once

#include <cstdint>
#include <vector>

namespace recjpq {

struct Scored {
  float score;
  int32_t item;
};

// The contract's order: the larger score first, ties to the lower item index.
inline bool better(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.item < b.item);
}

struct Catalogue {
  const uint8_t* codes;  // (N, M), item-major
  int64_t num_items;     // N
  int num_splits;        // M
};

// Which items may be returned. Index lists are ascending and without repeats.
struct Eligible {
  const int32_t* exclude = nullptr;
  int64_t num_exclude = 0;
  const int32_t* allow = nullptr;  // when not null: only these
  int64_t num_allow = 0;
  const bool* bitmap = nullptr;  // (N,); when not null: only items set here
};

// The k best eligible items, best first; fewer when fewer are eligible.
// table: float32 (M, V), finite; every code is below V.
std::vector<Scored> top_k(const Catalogue& catalogue, const float* table, int num_sub_ids, int64_t k,
                          const Eligible& eligible);

}  // namespace recjpq
