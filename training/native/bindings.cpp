// Python bindings: array types only. Trusted: training/score_softmax.py and training/codes/graph.py alone call them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>

#include "label_propagation.h"
#include "score_softmax.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T, int kDims>
using Array = nb::ndarray<T, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;

void score_softmax(const Array<const float, 3>& tables, const Array<const uint8_t, 2>& candidate_codes,
                   const Array<const int32_t, 1>& candidate_ids,
                   const std::optional<Array<const float, 1>>& candidate_bias,
                   const Array<const uint8_t, 2>& target_codes, const Array<const int32_t, 1>& target_ids,
                   const Array<float, 1>& losses, const Array<float, 3>& gradients, int threads) {
  const recjpq::ScoreSoftmax problem{static_cast<int>(tables.shape(0)),
                                     static_cast<int>(tables.shape(1)),
                                     static_cast<int64_t>(tables.shape(2)),
                                     static_cast<int64_t>(candidate_codes.shape(0)),
                                     tables.data(),
                                     candidate_codes.data(),
                                     candidate_ids.data(),
                                     candidate_bias ? candidate_bias->data() : nullptr,
                                     target_codes.data(),
                                     target_ids.data()};
  const nb::gil_scoped_release release;
  problem.run(losses.data(), gradients.data(), threads);
}

int64_t propagate_labels(const Array<const int64_t, 1>& offsets, const Array<const int32_t, 1>& neighbours,
                         const Array<const float, 1>& weights, const Array<const int32_t, 1>& order,
                         const Array<const float, 1>& node_mass, int num_labels, float balance,
                         const Array<uint8_t, 1>& labels) {
  const recjpq::Graph graph{static_cast<int64_t>(labels.shape(0)), offsets.data(), neighbours.data(), weights.data()};
  const nb::gil_scoped_release release;
  return recjpq::propagate_labels(graph, order.data(), node_mass.data(), num_labels, balance, labels.data());
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Compiled parts of training.";
  m.def("score_softmax", &score_softmax, "tables"_a, "candidate_codes"_a, "candidate_ids"_a,
        "candidate_bias"_a.none(), "target_codes"_a, "target_ids"_a, "losses"_a, "gradients"_a, "threads"_a);
  m.def("propagate_labels", &propagate_labels, "offsets"_a, "neighbours"_a, "weights"_a, "order"_a, "node_mass"_a,
        "num_labels"_a, "balance"_a, "labels"_a);
}
