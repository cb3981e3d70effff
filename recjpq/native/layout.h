// How a segment's codes lie in memory; shared by the segment that writes them and the kernels that read them.
//
//   lane     an item's place in its block
//   block    64 items: split after split, 64 codes each, so one cache line or AVX-512 register
//   page     64 blocks, 4,096 items
//   chapter  64 pages
//   band     one of the 16 ranges into which the sub-ids of a split are cut
//   presence for each split, two bytes per child of a page or chapter: bit b says that some item in the child has
//            a sub-id of band b
#pragma once

#include <cstddef>
#include <cstdint>

namespace recjpq {

constexpr int kLanes = 64;  // items per block, blocks per page, pages per chapter
constexpr int kSubIds = 256;
constexpr int kBands = 16;
constexpr int kBandSets = 256;  // subsets of 8 bands

inline size_t block_bytes(int num_splits) { return static_cast<size_t>(num_splits) * kLanes; }
inline size_t presence_bytes(int num_splits) { return static_cast<size_t>(num_splits) * 2 * kLanes; }

}  // namespace recjpq
