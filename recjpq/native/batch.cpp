#include "batch.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace recjpq {
namespace {

// Scoring an allowed item on its own costs about as much as passing over this many in a scan.
constexpr int64_t kItemsPassedOver = 512;

// The items of a bitmap that allows few, or nothing. A sample decides whether it is worth reading as a whole.
std::optional<std::vector<int32_t>> items_of_sparse(const bool* bitmap, int64_t num_items) {
  constexpr int64_t kSamples = 1024;
  const int64_t step = std::max<int64_t>(1, num_items / kSamples);
  int64_t sampled = 0, allowed = 0;
  for (int64_t i = 0; i < num_items; i += step, ++sampled) {
    allowed += bitmap[i];
    if (allowed * kItemsPassedOver > num_items / step + 1) return std::nullopt;  // a usual bitmap after a few samples
  }
  std::vector<int32_t> items;
  int64_t i = 0;
  for (; i + 8 <= num_items; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, bitmap + i, 8);
    if (!eight) continue;
    for (int64_t b = 0; b < 8; ++b) {
      if (bitmap[i + b]) items.push_back(static_cast<int32_t>(i + b));
    }
  }
  for (; i < num_items; ++i) {
    if (bitmap[i]) items.push_back(static_cast<int32_t>(i));
  }
  return items;
}

std::vector<int32_t> ascending(Items items, const bool* bitmap) {
  std::vector<int32_t> sorted(items.begin(), items.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  if (bitmap) std::erase_if(sorted, [bitmap](int32_t item) { return !bitmap[item]; });
  return sorted;
}

AllowedItems view(const std::vector<int32_t>& items) {
  static constexpr int32_t kNothing = 0;  // an empty vector may have no address, and null means every item
  return {items.empty() ? &kNothing : items.data(), static_cast<int64_t>(items.size())};
}

}  // namespace

bool all_below(Items items, int64_t num_items) {
  uint32_t largest = 0;  // a negative index is a large one without its sign
  for (const int32_t item : items) largest = std::max(largest, static_cast<uint32_t>(item));
  return items.empty() || largest < num_items;
}

int64_t first_row_not_finite(const float* tables, int64_t num_rows, int64_t row_size) {
  constexpr uint32_t kExponent = 0x7f800000;  // all ones for infinity and NaN alone
  for (int64_t row = 0; row < num_rows; ++row, tables += row_size) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < row_size; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(tables[i]) & kExponent);
    if (largest == kExponent) return row;
  }
  return -1;
}

std::vector<std::vector<Scored>> search_batch(const Catalogue& catalogue, const Batch& batch, const Kernels& kernels,
                                              Pool& pool) {
  const auto few = batch.bitmap ? items_of_sparse(batch.bitmap, catalogue.num_items()) : std::nullopt;
  const int num_splits = catalogue.num_splits();
  std::vector<std::vector<Scored>> results(static_cast<size_t>(batch.num_rows));
  const auto search_row = [&](size_t row, Pool& helpers) {
    const float* entries = batch.tables + row * static_cast<size_t>(num_splits) * static_cast<size_t>(batch.num_sub_ids);
    const ScoreTable table{entries, num_splits, batch.num_sub_ids};
    std::vector<float> arranged;
    ScoreTable coded = table;
    if (batch.num_sub_ids < kSubIds || !catalogue.numbering().is_identity()) {
      arranged.resize(static_cast<size_t>(num_splits) * kSubIds);
      catalogue.numbering().arrange(table, arranged.data());
      coded = {arranged.data(), num_splits, kSubIds};
    }
    Request request{&kernels, table, coded, batch.k, {}, ScoreRange(kernels, coded), batch.plain};
    std::optional<ItemSet> excluded;
    if (const auto& items = batch.exclude[row]; items && !items->empty()) {
      request.filter.excluded = &excluded.emplace(items->data(), static_cast<int64_t>(items->size()), catalogue.num_items());
    }
    request.filter.retired = catalogue.retired();
    if (const auto& items = batch.allow[row]) {
      results[row] = search(catalogue.segments(), request, view(ascending(*items, batch.bitmap)), helpers);
    } else if (few) {
      results[row] = search(catalogue.segments(), request, view(*few), helpers);
    } else {
      request.filter.allowed = batch.bitmap;
      results[row] = search(catalogue.segments(), request, {}, helpers);
    }
  };
  if (results.size() < pool.num_threads()) {
    for (size_t row = 0; row < results.size(); ++row) search_row(row, pool);
  } else {
    Pool alone(1);
    pool.run(results.size(), [&](size_t row) { search_row(row, alone); });
  }
  return results;
}

}  // namespace recjpq
