#include "score_softmax.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

// One copy of the loops for each level of the instruction set, chosen when the program is loaded.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
#define RECJPQ_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define RECJPQ_CLONES
#endif
#define RECJPQ_INLINE inline __attribute__((always_inline))

namespace recjpq {
namespace {

constexpr int kTokens = ScoreSoftmax::kTokens;
constexpr int64_t kTile = 256;  // candidates whose exponentials are added before they join the total

// One number per token; compilers turn it into as many vector registers as the processor needs.
typedef float Lanes __attribute__((vector_size(sizeof(float) * kTokens)));
typedef int32_t Integers __attribute__((vector_size(sizeof(int32_t) * kTokens)));

RECJPQ_INLINE void larger_of(Lanes& a, const Lanes& b) { a = a > b ? a : b; }

// exp(x) for x <= 0 to a few units in the last place, 0 below -87 (Cephes' expf: range reduction by powers of two,
// then a polynomial).
RECJPQ_INLINE void exponentials(Lanes& x) {
  constexpr float kLowest = -87.0f, kLog2E = 1.44269504f, kRound = 12582912.0f;  // 1.5 * 2^23: rounds to integers
  const Integers tiny = x < kLowest;
  x = x < kLowest ? kLowest - x * 0.0f : x;
  const Lanes n = (x * kLog2E + kRound) - kRound;
  const Lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
  Lanes scale;
  std::memcpy(&scale, &power, sizeof scale);
  x = tiny ? p * 0.0f : p * scale;
}

// Memory of one thread, kept from block to block. Not a vector: its allocator forgets the alignment of such types.
class Rows {
 public:
  Lanes* at_least(size_t count) {
    if (count > count_) {
      rows_.reset(static_cast<Lanes*>(::operator new(count * sizeof(Lanes), kAlignment)));
      count_ = count;
    }
    return rows_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{sizeof(Lanes)};
  struct Free {
    void operator()(Lanes* rows) const { ::operator delete(rows, kAlignment); }
  };

  std::unique_ptr<Lanes, Free> rows_;
  size_t count_ = 0;
};


// scores[c] = score + bias of candidate c, the lowest number where it is the token's target; returns the largest.
RECJPQ_CLONES void score(const ScoreSoftmax& problem, const Lanes* tables, const Integers& targets, Lanes* scores,
                         Lanes& largest) {
  const int M = problem.num_splits, V = problem.num_sub_ids;
  const Lanes excluded = Lanes{} - std::numeric_limits<float>::max();
  for (int64_t c = 0; c < problem.num_candidates; ++c) {
    const uint8_t* codes = problem.candidate_codes + c * M;
    Lanes sum = tables[codes[0]];
    for (int j = 1; j < M; ++j) sum += tables[j * V + codes[j]];
    if (problem.candidate_bias) sum += problem.candidate_bias[c];
    sum = targets == problem.candidate_ids[c] ? excluded : sum;
    scores[c] = sum;
    larger_of(largest, sum);
  }
}

// scores[c] = exp(scores[c] - largest); adds them up.
RECJPQ_CLONES void exponentiate(Lanes* scores, int64_t count, const Lanes& largest, Lanes& total) {
  for (int64_t first = 0; first < count; first += kTile) {
    Lanes sum{};
    for (int64_t c = first; c < std::min(count, first + kTile); ++c) {
      Lanes x = scores[c] - largest;
      exponentials(x);
      scores[c] = x;
      sum += x;
    }
    total += sum;
  }
}

// Adds every candidate's probability to the entries that its codes name.
RECJPQ_CLONES void scatter(const ScoreSoftmax& problem, const Lanes* exponentials, const Lanes& per_total,
                           Lanes* gradients) {
  const int M = problem.num_splits, V = problem.num_sub_ids;
  for (int64_t c = 0; c < problem.num_candidates; ++c) {
    const uint8_t* codes = problem.candidate_codes + c * M;
    const Lanes probability = exponentials[c] * per_total;
    for (int j = 0; j < M; ++j) gradients[j * V + codes[j]] += probability;
  }
}

}  // namespace

struct ScoreSoftmax::Workspace {
  Rows tables, gradients, scores;
};

void ScoreSoftmax::run_block(int64_t first, Workspace& workspace, float* losses, float* gradients) const {
  const size_t num_rows = static_cast<size_t>(num_splits) * static_cast<size_t>(num_sub_ids);
  const auto count = static_cast<size_t>(std::min<int64_t>(kTokens, num_tokens - first));
  const auto row_of = [&](size_t token, int split) {
    const auto code = target_codes[(static_cast<size_t>(first) + token) * static_cast<size_t>(num_splits) + split];
    return static_cast<size_t>(split) * static_cast<size_t>(num_sub_ids) + code;
  };
  Lanes* block_tables = workspace.tables.at_least(num_rows);
  Lanes* block_gradients = workspace.gradients.at_least(num_rows);
  Lanes* scores = workspace.scores.at_least(static_cast<size_t>(num_candidates));
  for (size_t row = 0; row < num_rows; ++row) {
    block_tables[row] = block_gradients[row] = Lanes{};
    std::memcpy(&block_tables[row], tables + row * static_cast<size_t>(num_tokens) + first, count * sizeof(float));
  }
  Integers ids = Integers{} - 1;
  Lanes target_scores{};
  for (size_t t = 0; t < count; ++t) {
    ids[t] = target_ids[static_cast<size_t>(first) + t];
    for (int j = 0; j < num_splits; ++j) target_scores[t] += block_tables[row_of(t, j)][t];
  }
  Lanes largest = target_scores, total{};
  score(*this, block_tables, ids, scores, largest);
  exponentiate(scores, num_candidates, largest, total);
  Lanes target_exponentials{};
  for (size_t t = 0; t < kTokens; ++t) target_exponentials[t] = std::exp(target_scores[t] - largest[t]);
  total += target_exponentials;
  const Lanes per_total = 1.0f / total;
  scatter(*this, scores, per_total, block_gradients);
  for (size_t t = 0; t < count; ++t) {
    losses[static_cast<size_t>(first) + t] = largest[t] + std::log(total[t]) - target_scores[t];
    const float gradient = target_exponentials[t] * per_total[t] - 1.0f;
    for (int j = 0; j < num_splits; ++j) block_gradients[row_of(t, j)][t] += gradient;
  }
  for (size_t row = 0; row < num_rows; ++row) {
    std::memcpy(gradients + row * static_cast<size_t>(num_tokens) + first, &block_gradients[row], count * sizeof(float));
  }
}

void ScoreSoftmax::run(float* losses, float* gradients, int num_threads) const {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    Workspace workspace;
    for (int64_t first; (first = next.fetch_add(kTokens)) < num_tokens;) {
      run_block(first, workspace, losses, gradients);
    }
  };
  const auto blocks = static_cast<int>(std::min<int64_t>((num_tokens + kTokens - 1) / kTokens, num_threads));
  std::vector<std::thread> helpers;
  for (int i = 1; i < blocks; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace recjpq
