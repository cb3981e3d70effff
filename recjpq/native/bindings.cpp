// Python bindings: array types and lifetimes only; arguments are checked in recjpq/scoring/checks.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>

#include "id_index.h"
#include "scan.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T, int kDims>
using Array = nb::ndarray<const T, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;

template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> to_numpy(std::vector<T>&& values) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return {owned->data(), {owned->size()}, owner};
}

nb::tuple top_k(Array<uint8_t, 2> codes, Array<float, 2> table, int64_t k, std::optional<Array<int32_t, 1>> exclude,
                std::optional<Array<int32_t, 1>> allow, std::optional<Array<bool, 1>> bitmap) {
  const recjpq::Catalogue catalogue{codes.data(), static_cast<int64_t>(codes.shape(0)),
                                    static_cast<int>(codes.shape(1))};
  // An empty array may have no address, and a null `allow` means every item.
  static const int32_t nothing = 0;
  recjpq::Eligible eligible;
  if (exclude && exclude->size()) {
    eligible.exclude = exclude->data();
    eligible.num_exclude = static_cast<int64_t>(exclude->size());
  }
  if (allow) {
    eligible.allow = allow->size() ? allow->data() : &nothing;
    eligible.num_allow = static_cast<int64_t>(allow->size());
  }
  if (bitmap) eligible.bitmap = bitmap->data();
  std::vector<int32_t> ids;
  std::vector<float> scores;
  {
    nb::gil_scoped_release release;
    const auto best = recjpq::top_k(catalogue, table.data(), static_cast<int>(table.shape(1)), k, eligible);
    ids.reserve(best.size());
    scores.reserve(best.size());
    for (const auto& [score, item] : best) {
      ids.push_back(item);
      scores.push_back(score);
    }
  }
  return nb::make_tuple(to_numpy(std::move(ids)), to_numpy(std::move(scores)));
}

// Keeps the arrays alive for as long as the index that points into them.
struct OwningIdIndex {
  OwningIdIndex(Array<int64_t, 1> offsets, Array<uint8_t, 1> data)
      : offsets(offsets), data(data), index(build(offsets, data)) {}

  static recjpq::IdIndex build(const Array<int64_t, 1>& offsets, const Array<uint8_t, 1>& data) {
    nb::gil_scoped_release release;
    return {offsets.data(), static_cast<int64_t>(offsets.shape(0)) - 1, reinterpret_cast<const char*>(data.data())};
  }

  nb::ndarray<nb::numpy, int32_t, nb::ndim<1>> find(nb::list ids) const {
    std::vector<int32_t> items;
    items.reserve(ids.size());
    for (nb::handle id : ids) {
      if (!PyUnicode_Check(id.ptr())) throw nb::type_error("item ids must be strings");
      Py_ssize_t length = 0;
      const char* text = PyUnicode_AsUTF8AndSize(id.ptr(), &length);
      if (text == nullptr) {  // a lone surrogate has no UTF-8 form, so no item can have this id
        PyErr_Clear();
        items.push_back(-1);
      } else {
        items.push_back(index.find({text, static_cast<size_t>(length)}));
      }
    }
    return to_numpy(std::move(items));
  }

  Array<int64_t, 1> offsets;
  Array<uint8_t, 1> data;
  recjpq::IdIndex index;
};

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Compiled parts of recjpq: exact scoring and item id lookup.";
  m.def("top_k", &top_k, "codes"_a, "table"_a, "k"_a, "exclude"_a.none(), "allow"_a.none(), "bitmap"_a.none());
  nb::class_<OwningIdIndex>(m, "IdIndex")
      .def(nb::init<Array<int64_t, 1>, Array<uint8_t, 1>>(), "offsets"_a, "data"_a)
      .def("find", &OwningIdIndex::find, "ids"_a)
      .def_prop_ro("first_duplicate", [](const OwningIdIndex& self) { return self.index.first_duplicate(); })
      .def_prop_ro("size_bytes", [](const OwningIdIndex& self) { return self.index.size_bytes(); });
}
