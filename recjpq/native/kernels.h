// The inner loops, once per instruction set; chosen when running, so that one binary serves every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace recjpq {

struct Kernels {
  std::string_view name;

  float (*largest)(const float* row, int num_sub_ids);

  // deficits[v] = floor((largest - row[v]) * scale), at most 255, each step rounded in float32; 255 from
  // num_sub_ids to 255.
  void (*quantise)(const float* row, int num_sub_ids, float largest, float scale, uint8_t* deficits);

  // least[h][s] = the least deficit in the bands 8h to 8h+7 that the bits of s name; 255 for none.
  // Band b: the deficits of the 2^band_shift sub-ids from b * 2^band_shift on.
  void (*band_subsets)(const uint8_t* deficits, int band_shift, uint8_t* least);

  // bounds[b] = sum over splits, saturating, of the least band deficit present in child b.
  // presence: [M][2][64]; least: [M][2][256].
  void (*bound)(const uint8_t* presence, const uint8_t* least, int num_splits, uint8_t* bounds);

  // Bit b of the result: values[b] <= limit, for 64 values.
  uint64_t (*at_most)(const uint8_t* values, uint8_t limit);

  // Bit i of masks[b]: the saturating sum of the deficits of item i in block b is at most limit.
  // blocks: [count][M][64]; deficits: [M][256]. The first num_sorted splits are sorted by 16s of sub-ids, see
  // order.h; rest: all splits, those that exclude most first.
  void (*scan)(const uint8_t* blocks, size_t count, const uint8_t* deficits, int num_splits, int num_sorted,
               const uint8_t* rest, uint8_t limit, uint64_t* masks);
};

// Every set that this machine can run, the fastest first; `portable` is the last.
const std::vector<const Kernels*>& supported_kernels();

// The set of that name, the fastest for an empty name, or null.
const Kernels* find_kernels(std::string_view name);

}  // namespace recjpq
