// Communities of a weighted graph, of about equal mass.
#pragma once

#include <cstdint>

namespace recjpq {

// A symmetric graph of n nodes in compressed rows, without loops.
struct Graph {
  int64_t num_nodes;
  const int64_t* offsets;     // (n + 1,)
  const int32_t* neighbours;  // (edges,)
  const float* weights;       // (edges,)
};

// One pass of label propagation (Raghavan, Albert & Kumara, 2007) over the nodes in the given order: each takes the
// label that its neighbours weigh most, a label's weight being scaled by (mean mass / its mass)^balance, so that no
// label swallows the others (Barber & Clark, 2009, constrain the same growth). Labels change in place, so that a
// node sees what those before it chose; nodes without neighbours keep theirs. Returns how many changed.
//
// order: (n,), a permutation. node_mass: (n,), positive. labels: (n,), below num_labels, which is at most 256.
int64_t propagate_labels(const Graph& graph, const int32_t* order, const float* node_mass, int num_labels, float balance,
                         uint8_t* labels);

}  // namespace recjpq
