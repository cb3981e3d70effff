// Softmax cross-entropy over items that are scored through score tables, with its gradient.
#pragma once

#include <cstdint>

namespace recjpq {

// Token t's score of an item with codes c is sum_j tables[j][c_j][t]. Its loss is
//     log(exp(target) + sum over candidates that are not the target of exp(score + bias)) - target.
// Neither a score nor a probability is kept for more than kTokens tokens at a time: memory does not grow with
// tokens x candidates.
struct ScoreSoftmax {
  // Tokens worked on together: one cache line of float32, so that a lookup is a few vector loads.
  static constexpr int kTokens = 8;

  int num_splits;
  int num_sub_ids;
  int64_t num_tokens;
  int64_t num_candidates;
  const float* tables;             // (M, V, T)
  const uint8_t* candidate_codes;  // (C, M)
  const int32_t* candidate_ids;    // (C,)
  const float* candidate_bias;     // (C,), or null for none
  const uint8_t* target_codes;     // (T, M)
  const int32_t* target_ids;       // (T,)

  // losses: (T,). gradients: (M, V, T), of the sum of the losses by the tables.
  void run(float* losses, float* gradients, int num_threads) const;

 private:
  struct Workspace;

  void run_block(int64_t first, Workspace& workspace, float* losses, float* gradients) const;
};

}  // namespace recjpq
