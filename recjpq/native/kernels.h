// The inner loops, once per instruction set; chosen when running, so that one binary serves every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace recjpq {

// A table of deficits, see deficits.h, as the scans want it.
struct ScanTable {
  const uint8_t* items;  // [M][256]
  const uint8_t* rows;   // [M][16], the least of each row
  const uint8_t* order;  // all splits, those that exclude most first
  int num_splits;
  int num_sorted;  // this many splits, the first, are in order by cell wherever all before them agree in theirs
};

struct Kernels {
  std::string_view name;

  // maxima[r] = the largest of the 16 entries from 16 r on; entries: 256.
  void (*row_maxima)(const float* entries, float* maxima);

  // deficits[i] = floor((largest - entries[i]) * scale), at most 255, each step rounded in float32; count: a multiple
  // of 16.
  void (*quantise)(const float* entries, int count, float largest, float scale, uint8_t* deficits);

  // bounds[b] = sum over splits, saturating, of the least band deficit present in child b; 255 for a split without
  // any. presence: [M][2][64]; least: [M][4][16], least[q][s] of the bands 4q to 4q+3 that the bits of s name.
  void (*bound)(const uint8_t* presence, const uint8_t* least, int num_splits, uint8_t* bounds);

  // Bit b of the result: values[b] <= limit, for 64 values.
  uint64_t (*at_most)(const uint8_t* values, uint8_t limit);

  // Bit i: the saturating sum of item i's deficit in the first split of the order and of its rows' in all others is at
  // most limit, as it is wherever the sum of its own deficits is. block: [M][64].
  uint64_t (*sift)(const uint8_t* block, const ScanTable& table, uint8_t limit);

  // Bit i of masks[b]: the saturating sum of the deficits of item i of block b is at most limit. blocks: [count][M][64].
  void (*scan)(const uint8_t* blocks, size_t count, const ScanTable& table, uint8_t limit, uint64_t* masks);
};

// Every set that this machine can run, the fastest first; `portable` is the last.
const std::vector<const Kernels*>& supported_kernels();

// The set of that name, the fastest for an empty name, or null.
const Kernels* find_kernels(std::string_view name);

}  // namespace recjpq
