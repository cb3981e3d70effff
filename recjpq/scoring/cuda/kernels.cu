// Exact top-k over codes, on a GPU. Compiled when it is first needed (compile.py); the tests also compile it as host
// C++ and run it thread by thread (tests/recjpq/emulated_cuda.h). No include, no warp intrinsic, C++17.
//
// RECJPQ_WORDS is the number of 32-bit words that hold one item's codes, four splits each.

#ifndef RECJPQ_EMULATED
#define RECJPQ_DYNAMIC_SHARED(name) extern __shared__ uint4 name[]
#endif

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

constexpr int kWords = RECJPQ_WORDS;
constexpr int kMaxSplits = 64;
constexpr int kTileItems = 128;  // search.py knows it too
constexpr int kWarp = 32;

// Rounded deficits are bytes, four rows to a word, while sums of 8 of them leave enough levels; else half-words.
constexpr int kLaneBits = kWords <= 2 ? 8 : 16;
constexpr int kLanesPerWord = 32 / kLaneBits;
constexpr u32 kLaneMask = kLaneBits == 8 ? 0xffu : 0xffffu;
constexpr u32 kEveryLane = kLaneBits == 8 ? 0x01010101u : 0x00010001u;
constexpr u32 kHighBits = kEveryLane << (kLaneBits - 1);
// No sum of `kTooMuch` in every split may carry into the next lane, and `any_within` asks for at most a high bit.
constexpr u32 kMostPerSplit = kLaneMask / (4 * kWords);
constexpr u32 kTooMuch = kMostPerSplit < (1u << (kLaneBits - 1)) ? kMostPerSplit : 1u << (kLaneBits - 1);
constexpr u32 kLimit = kTooMuch - 1;  // the largest sum of deficits of an item that may be among the best

// All that a search needs, in the order of search.py; every field has 8 bytes. A row is one score table.
struct Search {
  const u32* codes;            // [num_items][kWords], the first split in the lowest byte, 0 beyond the last split
  const float* tables;         // [num_rows][num_splits][num_sub_ids]
  const u32* eligible;         // a bit for each item, or null for all
  const i64* listed_starts;    // [num_rows + 1] into `listed`, or null: a row's only items, each once
  const int* listed;
  const i64* excluded_starts;  // [num_rows + 1] into `excluded`, or null
  const int* excluded;         // ascending within a row
  u64* thresholds;             // [num_rows] a rank that k of the row's items are known to reach, 0 for none
  u32* counts;                 // [num_rows] how many candidates were found, of which `capacity` are kept
  u64* candidates;             // [num_rows][capacity] ranks; 0 is no item
  u8* image;                   // rounded deficits, pass after pass, see `image_lane`
  u64* best;                   // [num_rows][sort_size + 1] the k best ranks, 0 beyond them; last, the row's count
  i64 num_items;
  i64 num_splits;
  i64 num_sub_ids;
  i64 num_rows;
  i64 k;
  i64 capacity;
  i64 collected;   // how many items `collect` takes, if they are not listed
  i64 num_tiles;
  i64 tile_step;   // coprime to num_tiles: tiles are visited in steps of it, so the first few are spread over all
  i64 tiles_seen;  // how many `scan` visits
  i64 group_shift; // log2 of the threads that share one item
  i64 copies;      // of each deficit in shared memory, so that threads need not wait for each other's bank
  i64 sort_size;   // a power of two, at least k
};

// ---------------------------------------------------------------- ranks

// A score and an item in one number, as in native/best.h: greater for what the contract puts first.
__device__ u64 rank_of(float score, i64 item) {
  const u32 bits = __float_as_uint(score);
  const u32 ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<u64>(ascending) << 32 | ~static_cast<u32>(item);
}

__device__ float score_of(u64 rank) {
  const u32 ascending = static_cast<u32>(rank >> 32);
  return __uint_as_float(ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending);
}

// The contract's sum: float32, from zero, in the order of the splits.
__device__ u64 exact_rank(const Search& s, i64 row, i64 item) {
  const float* table = s.tables + row * s.num_splits * s.num_sub_ids;
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    const u32 code = s.codes[item * kWords + w];
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const int split = 4 * w + t;
      if (split < s.num_splits) sum = __fadd_rn(sum, table[split * s.num_sub_ids + (code >> (8 * t) & 0xff)]);
    }
  }
  return rank_of(sum, item);
}

__device__ bool is_eligible(const Search& s, i64 item) {
  return !s.eligible || (s.eligible[item >> 5] >> (item & 31) & 1);
}

__device__ bool is_excluded(const Search& s, i64 row, i64 item) {
  if (!s.excluded_starts) return false;
  i64 low = s.excluded_starts[row], high = s.excluded_starts[row + 1];
  const i64 end = high;
  while (low < high) {
    const i64 middle = (low + high) / 2;
    if (s.excluded[middle] < item) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < end && s.excluded[low] == item;
}

// ---------------------------------------------------------------- a first set of candidates

// Scores listed items, or some that are spread over the catalogue, one row for each blockIdx.y.
extern "C" __global__ void collect(Search s) {
  const i64 row = blockIdx.y;
  const i64 start = s.listed_starts ? s.listed_starts[row] : 0;
  const i64 count = s.listed_starts ? s.listed_starts[row + 1] - start : s.collected;
  const i64 first = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (i64 i = first; i < count; i += static_cast<i64>(gridDim.x) * blockDim.x) {
    const i64 item = s.listed_starts ? s.listed[start + i] : i * s.num_items / s.collected;
    const bool admitted = is_eligible(s, item) && !is_excluded(s, row, item);
    s.candidates[row * s.capacity + i] = admitted ? exact_rank(s, row, item) : 0;
  }
  if (first == 0) {
    s.counts[row] = static_cast<u32>(count);
    s.thresholds[row] = 0;
  }
}

// ---------------------------------------------------------------- selection, by a block

// Returns a rank that at least k and at most `enough` of the values reach; more than `enough` only if that many values
// are equal, as those of no item are. Digits of 8 bits, from the highest on (radix select).
__device__ u64 reached_by_k(const u64* values, i64 count, i64 k, i64 enough) {
  __shared__ u32 histogram[256];
  __shared__ u32 chosen;
  __shared__ i64 chosen_above;
  u64 prefix = 0;
  i64 above = 0;  // values whose digits so far are beyond the prefix
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (u32 bin = threadIdx.x; bin < 256; bin += blockDim.x) histogram[bin] = 0;
    __syncthreads();
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
      const u64 value = values[i];
      if (shift == 56 || value >> (shift + 8) == prefix >> (shift + 8)) atomicAdd(&histogram[value >> shift & 0xff], 1u);
    }
    __syncthreads();
    for (u32 bin = threadIdx.x; bin < 256; bin += blockDim.x) {
      i64 beyond = above;
      for (u32 higher = bin + 1; higher < 256; ++higher) beyond += histogram[higher];
      if (beyond < k && beyond + histogram[bin] >= k) {  // of one bin alone
        chosen = bin;
        chosen_above = beyond;
      }
    }
    __syncthreads();
    prefix |= static_cast<u64>(chosen) << shift;
    above = chosen_above;
    const bool done = above + histogram[chosen] <= enough;
    __syncthreads();  // before the next round clears what was just read
    if (done) break;
  }
  return prefix;
}

// ---------------------------------------------------------------- rounded deficits

// Where a row's deficit of (split, sub-id) stands. A pass is the rows that one block scans; for each four splits and
// each sub-id it has the four splits' words of all threads that share an item, `kPerThread` words each.
template <int kPerThread>
__device__ u8* image_lane(const Search& s, u32 row, u32 split, u32 sub_id) {
  const u32 group_shift = static_cast<u32>(s.group_shift);
  const u32 pass_words = static_cast<u32>(kPerThread) << group_shift;  // of an item
  const u32 word = row / kLanesPerWord;
  const u32 pass = word / kPerThread >> group_shift, within = word & (pass_words - 1);
  const i64 line = (static_cast<i64>(pass) * kWords + split / 4) * s.num_sub_ids + sub_id;
  return s.image + (line * 4 + split % 4) * pass_words * 4 + within * 4 + row % kLanesPerWord * (kLaneBits / 8);
}

__device__ void store_lane(u8* place, u32 deficit) {
  if (kLaneBits == 8) {
    *place = static_cast<u8>(deficit);
  } else {
    *reinterpret_cast<u16*>(place) = static_cast<u16>(deficit);
  }
}

// Floats as integers of the same order.
__device__ int ordered(float value) {
  const int bits = __float_as_int(value);
  return bits ^ (bits >> 31 & 0x7fffffff);
}

__device__ float unordered(int value) { return __int_as_float(value ^ (value >> 31 & 0x7fffffff)); }

// Raises the row's threshold by its candidates, and rounds its deficits so that every item at or above the threshold
// has a sum of at most kLimit. The bound and its proof are those of native/deficits.h: an item with a score of at least
// t has true deficits of at most (U - t + M u sum |m_j|) / (1 - M u), where m_j is the largest entry of split j.
template <int kPerThread>
__device__ void prepare(const Search& s) {
  const i64 row = blockIdx.x;
  __shared__ int largest[kMaxSplits];
  __shared__ double scale;  // negative: this row cannot be narrowed, every item may be among its best
  const u32 num_sub_ids = static_cast<u32>(s.num_sub_ids);
  const u32 entries = 4 * kWords * num_sub_ids, table_entries = static_cast<u32>(s.num_splits) * num_sub_ids;
  if (row >= s.num_rows) {  // fills up the last pass: nothing is within the limit
    for (u32 i = threadIdx.x; i < entries; i += blockDim.x) {
      store_lane(image_lane<kPerThread>(s, blockIdx.x, i / num_sub_ids, i % num_sub_ids), kTooMuch);
    }
    return;
  }
  const float* table = s.tables + row * s.num_splits * s.num_sub_ids;
  const i64 found = s.counts[row];
  const i64 count = found < s.capacity ? found : s.capacity;
  u64 threshold = s.thresholds[row];
  if (count >= s.k) {
    const u64 reached = reached_by_k(s.candidates + row * s.capacity, count, s.k, s.k + s.k / 8 + 8);
    if (reached > threshold) threshold = reached;
  }
  for (int split = threadIdx.x; split < kMaxSplits; split += blockDim.x) largest[split] = -0x7fffffff - 1;
  __syncthreads();
  for (u32 i = threadIdx.x; i < table_entries; i += blockDim.x) {
    atomicMax(&largest[i / num_sub_ids], ordered(table[i]));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double upper = 0.0, magnitude = 0.0;
    for (int split = 0; split < s.num_splits; ++split) {
      upper += unordered(largest[split]);
      magnitude += fabs(static_cast<double>(unordered(largest[split])));
    }
    const double goal = score_of(threshold);
    const double most_finite = 3.4028234663852886e38;
    // A rank with zeros for its last digits is no item's, but still has a score. Below the lowest: NaN, no threshold.
    const bool narrow = goal >= -most_finite && magnitude <= 0.5 * most_finite;
    const double slack = 1.001 * s.num_splits * 5.9604644775390625e-08 * magnitude;
    const double reach = (upper - goal + slack > 0.0 ? upper - goal + slack : 0.0) * (1.0 + 1.0 / 131072);
    scale = !narrow ? -1.0 : reach * 1e30 > kLimit ? kLimit / reach * (1.0 - 1e-9) : 1e30;
    s.thresholds[row] = threshold;
    s.counts[row] = 0;
  }
  __syncthreads();
  for (u32 i = threadIdx.x; i < entries; i += blockDim.x) {
    const u32 split = i / num_sub_ids, sub_id = i % num_sub_ids;
    double deficit = 0.0;
    if (i < table_entries && scale >= 0.0) {
      deficit = (static_cast<double>(unordered(largest[split])) - table[i]) * scale;
    }
    const u32 rounded = deficit < kTooMuch ? static_cast<u32>(deficit) : kTooMuch;
    store_lane(image_lane<kPerThread>(s, blockIdx.x, split, sub_id), rounded);
  }
}

extern "C" __global__ void prepare_narrow(Search s) { prepare<1>(s); }
extern "C" __global__ void prepare_wide(Search s) { prepare<4>(s); }

// ---------------------------------------------------------------- the scan

// Whether some lane is less than kLimit + 1; a borrow can only come from such a lane.
__device__ u32 any_within(u32 sums) { return (sums - kTooMuch * kEveryLane) & ~sums & kHighBits; }

// Keeps the item among the row's candidates if it reaches the threshold and no filter forbids it.
__device__ void offer(const Search& s, i64 row, i64 item) {
  if (!is_eligible(s, item)) return;
  const u64 rank = exact_rank(s, row, item);
  if (rank < s.thresholds[row] || is_excluded(s, row, item)) return;
  const u32 place = atomicAdd(&s.counts[row], 1u);
  if (place < s.capacity) s.candidates[row * s.capacity + place] = rank;
}

template <int kPerThread>
struct alignas(4 * kPerThread) Words {
  u32 word[kPerThread];
};

struct Codes {
  u32 word[kWords];
};

__device__ Codes load_codes(const Search& s, i64 item) {
  const i64 last = s.num_items - 1;
  const u32* source = s.codes + (item < last ? item : last) * kWords;
  Codes codes;
#pragma unroll
  for (int w = 0; w < kWords; ++w) codes.word[w] = source[w];
  return codes;
}

// One pass over the visited tiles, for the rows of blockIdx.y. Threads of a warp share an item, each with its own rows;
// the warp's other threads have other items. To keep out of each other's shared memory banks, neighbouring items take
// their four splits in a different order, and beyond four items read another copy: so at every step each thread of a
// warp has a bank of its own, whatever the codes.
template <int kPerThread>
__device__ void scan(const Search& s) {
  using Entry = Words<kPerThread>;
  RECJPQ_DYNAMIC_SHARED(shared);
  Entry* table = reinterpret_cast<Entry*>(shared);
  const int group_shift = static_cast<int>(s.group_shift), groups = 1 << group_shift;
  const int copies = static_cast<int>(s.copies);
  const int num_sub_ids = static_cast<int>(s.num_sub_ids);
  const int line = 4 << group_shift;  // entries of four splits

  const int lines = kWords * num_sub_ids;
  const Entry* image = reinterpret_cast<const Entry*>(s.image) + static_cast<i64>(blockIdx.y) * lines * line;
  for (int i = threadIdx.x; i < lines * line; i += blockDim.x) {
    const Entry entry = image[i];
    const int from = i >> (group_shift + 2), within = i & (line - 1);
    for (int copy = 0; copy < copies; ++copy) table[(from * copies + copy) * line + within] = entry;
  }
  __syncthreads();

  const int thread = threadIdx.x % kWarp;
  const int group = thread & (groups - 1), slot = thread >> group_shift;
  const int phase = slot & 3, copy = (slot >> 2) & (copies - 1);
  int column[4];
#pragma unroll
  for (int t = 0; t < 4; ++t) column[t] = copy * line + (((phase + t) & 3) << group_shift) + group;
  const i64 first_row = ((static_cast<i64>(blockIdx.y) << group_shift) + group) * kPerThread * kLanesPerWord;
  const int at_once = kWarp >> group_shift;

  const i64 warps = static_cast<i64>(gridDim.x) * blockDim.x / kWarp;
  const i64 warp = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const i64 jump = warps % s.num_tiles * s.tile_step % s.num_tiles;
  i64 tile = warp % s.num_tiles * s.tile_step % s.num_tiles;
  for (i64 visited = warp; visited < s.tiles_seen; visited += warps) {
    const i64 beyond = (tile + 1) * kTileItems;
    const i64 end = beyond < s.num_items ? beyond : s.num_items;
    i64 item = tile * kTileItems + slot;
    Codes next = load_codes(s, item);
    for (; item < end; item += at_once) {
      const Codes codes = next;
      next = load_codes(s, item + at_once);
      u32 sums[kPerThread] = {};
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        const u32 code = __funnelshift_r(codes.word[w], codes.word[w], 8 * phase);
#pragma unroll
        for (int t = 0; t < 4; ++t) {
          const int at = w * num_sub_ids + static_cast<int>(code >> (8 * t) & 0xff);
          const Entry entry = table[at * (copies * line) + column[t]];
#pragma unroll
          for (int e = 0; e < kPerThread; ++e) sums[e] += entry.word[e];
        }
      }
      u32 any = 0;
#pragma unroll
      for (int e = 0; e < kPerThread; ++e) any |= any_within(sums[e]);
      if (!any) continue;
      u32 rows = 0;  // a bit for each of the thread's rows
#pragma unroll
      for (int e = 0; e < kPerThread; ++e) {
#pragma unroll
        for (int lane = 0; lane < kLanesPerWord; ++lane) {
          const bool within = (sums[e] >> (lane * kLaneBits) & kLaneMask) <= kLimit;
          rows |= static_cast<u32>(within) << (e * kLanesPerWord + lane);
        }
      }
      for (; rows; rows &= rows - 1) offer(s, first_row + __ffs(rows) - 1, item);
    }
    tile += jump;
    if (tile >= s.num_tiles) tile -= s.num_tiles;
  }
}

// At 1,024 threads a block: registers for all of them.
extern "C" __global__ void __launch_bounds__(1024, 1) scan_narrow(Search s) { scan<1>(s); }
extern "C" __global__ void __launch_bounds__(1024, 1) scan_wide(Search s) { scan<4>(s); }

// ---------------------------------------------------------------- the answer

// Puts a power of two of ranks in descending order, by a block (bitonic sort).
__device__ void sort(u64* ranks, i64 size) {
  for (i64 run = 2; run <= size; run *= 2) {
    for (i64 apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (i64 i = threadIdx.x; i < size / 2; i += blockDim.x) {
        const i64 low = i / apart * 2 * apart + i % apart;
        const u64 a = ranks[low], b = ranks[low + apart];
        if ((a < b) == ((low & run) == 0)) {
          ranks[low] = b;
          ranks[low + apart] = a;
        }
      }
    }
  }
  __syncthreads();
}

// Whether all of a row's scores are finite: of tables that were made on the device nobody else has looked. What is not
// finite does no harm before that, since it orders like any other bits and rounds to no deficit or to too much.
__device__ bool is_finite(const Search& s, i64 row) {
  __shared__ u32 others;
  const i64 entries = s.num_splits * s.num_sub_ids;
  const float* table = s.tables + row * entries;
  if (threadIdx.x == 0) others = 0;
  __syncthreads();
  for (i64 i = threadIdx.x; i < entries; i += blockDim.x) {
    if ((__float_as_uint(table[i]) & 0x7f800000u) == 0x7f800000u) atomicAdd(&others, 1u);
  }
  __syncthreads();
  return others == 0;
}

// The k best of the row's candidates, best first, and how many candidates there were: a count beyond the capacity tells
// that some are missing, one of all ones that the table is not finite.
extern "C" __global__ void finish(Search s) {
  constexpr i64 kInShared = 1024;
  __shared__ u64 in_shared[kInShared];
  __shared__ u32 kept;
  const i64 row = blockIdx.x;
  u64* best = s.best + row * (s.sort_size + 1);
  u64* ranks = s.sort_size <= kInShared ? in_shared : best;
  const u64* candidates = s.candidates + row * s.capacity;
  const i64 found = s.counts[row];
  const i64 count = found < s.capacity ? found : s.capacity;
  const u64 worst = count > s.k ? reached_by_k(candidates, count, s.k, s.k) : 0;
  for (i64 i = threadIdx.x; i < s.sort_size; i += blockDim.x) ranks[i] = 0;
  if (threadIdx.x == 0) kept = 0;
  __syncthreads();
  for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
    const u64 rank = candidates[i];
    if (rank && rank >= worst) ranks[atomicAdd(&kept, 1u)] = rank;
  }
  sort(ranks, s.sort_size);
  if (ranks != best) {
    for (i64 i = threadIdx.x; i < s.sort_size; i += blockDim.x) best[i] = ranks[i];
  }
  const bool finite = is_finite(s, row);
  if (threadIdx.x == 0) best[s.sort_size] = finite ? static_cast<u64>(found) : ~u64{0};
}
