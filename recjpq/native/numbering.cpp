#include "numbering.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

namespace recjpq {
namespace {

constexpr int kBits = 8;

}  // namespace

Numbering::Numbering(const uint8_t* item_codes, int64_t num_items, int num_splits)
    : codes_(static_cast<size_t>(num_splits)) {
  // Sub-ids below a power of two keep their order and leave equal gaps, which those above fill.
  const uint8_t largest = *std::max_element(item_codes, item_codes + num_items * num_splits);
  const int used_bits = std::max(1, static_cast<int>(std::bit_width(static_cast<unsigned>(largest))));
  Permutation spread;
  for (int v = 0; v < kSubIds; ++v) {
    spread[static_cast<size_t>(v)] =
        static_cast<uint8_t>((v & ((1 << used_bits) - 1)) << (kBits - used_bits) | v >> used_bits);
  }
  is_identity_ = used_bits == kBits;
  std::fill(codes_.begin(), codes_.end(), spread);
}

void Numbering::arrange(const ScoreTable& table, float* entries) const {
  for (int j = 0; j < table.num_splits; ++j, entries += kSubIds) {
    const float* row = table.row(j);
    const Permutation& codes = codes_[static_cast<size_t>(j)];
    if (table.num_sub_ids < kSubIds) std::fill_n(entries, kSubIds, -std::numeric_limits<float>::infinity());
    for (int v = 0; v < table.num_sub_ids; ++v) entries[codes[static_cast<size_t>(v)]] = row[v];
  }
}

}  // namespace recjpq
