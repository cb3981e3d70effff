#include "label_propagation.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace recjpq {
namespace {

constexpr int kMostLabels = 256;

class Masses {
 public:
  Masses(const Graph& graph, const float* node_mass, int num_labels, float balance, const uint8_t* labels)
      : balance_(balance) {
    double total = 0.0;
    for (int64_t node = 0; node < graph.num_nodes; ++node) {
      mass_[labels[node]] += node_mass[node];
      total += node_mass[node];
    }
    mean_ = total / num_labels;
    for (int label = 0; label < num_labels; ++label) update(label);
  }

  float scale(int label) const { return scale_[label]; }

  void move(float mass, int from, int to) {
    mass_[from] -= mass;
    mass_[to] += mass;
    update(from);
    update(to);
  }

 private:
  // An empty label would weigh without bound, and a first node in it much too much.
  void update(int label) {
    scale_[label] = static_cast<float>(std::pow(mean_ / std::max(mass_[label], 0.02 * mean_), balance_));
  }

  double balance_, mean_ = 0.0;
  std::array<double, kMostLabels> mass_{};
  std::array<float, kMostLabels> scale_{};
};

}  // namespace

int64_t propagate_labels(const Graph& graph, const int32_t* order, const float* node_mass, int num_labels, float balance,
                         uint8_t* labels) {
  Masses masses(graph, node_mass, num_labels, balance, labels);
  std::array<float, kMostLabels> votes{};
  int64_t changed = 0;
  for (int64_t i = 0; i < graph.num_nodes; ++i) {
    const int32_t node = order[i];
    const int64_t begin = graph.offsets[node], end = graph.offsets[node + 1];
    for (int64_t e = begin; e < end; ++e) votes[labels[graph.neighbours[e]]] += graph.weights[e];
    int best = labels[node];
    float most = votes[best] * masses.scale(best);  // a tie keeps the label
    for (int64_t e = begin; e < end; ++e) {
      const int label = labels[graph.neighbours[e]];
      const float vote = votes[label] * masses.scale(label);
      if (vote > most) {
        most = vote;
        best = label;
      }
    }
    for (int64_t e = begin; e < end; ++e) votes[labels[graph.neighbours[e]]] = 0.0f;
    if (best != labels[node]) {
      masses.move(node_mass[node], labels[node], best);
      labels[node] = static_cast<uint8_t>(best);
      ++changed;
    }
  }
  return changed;
}

}  // namespace recjpq
