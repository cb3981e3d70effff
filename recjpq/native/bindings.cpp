// Python bindings: array types and lifetimes only; arguments are checked in recjpq/scoring/checks.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "batch.h"
#include "catalogue.h"
#include "id_index.h"
#include "kernels.h"

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

// The array's data, which keeps the array alive. Whoever frees it last may not hold the GIL.
std::shared_ptr<const uint8_t> shared_data(const Array<uint8_t, 2>& array) {
  auto* owner = new Array<uint8_t, 2>(array);
  return {array.data(), [owner](const uint8_t*) {
            const nb::gil_scoped_acquire acquire;
            delete owner;
          }};
}

std::unique_ptr<recjpq::Catalogue> make_catalogue(const Array<uint8_t, 2>& item_codes) {
  auto codes = shared_data(item_codes);
  const nb::gil_scoped_release release;
  return std::make_unique<recjpq::Catalogue>(std::move(codes), static_cast<int64_t>(item_codes.shape(0)),
                                             static_cast<int>(item_codes.shape(1)));
}

std::unique_ptr<recjpq::Catalogue> append(const recjpq::Catalogue& catalogue, const Array<uint8_t, 2>& item_codes) {
  const size_t size = item_codes.size();
  const std::shared_ptr<uint8_t> copy(new uint8_t[size], std::default_delete<uint8_t[]>());
  std::copy_n(item_codes.data(), size, copy.get());
  const nb::gil_scoped_release release;
  return std::make_unique<recjpq::Catalogue>(catalogue.append(copy, static_cast<int64_t>(item_codes.shape(0))));
}

std::unique_ptr<recjpq::Catalogue> retire(const recjpq::Catalogue& catalogue, const Array<int32_t, 1>& items) {
  const nb::gil_scoped_release release;
  return std::make_unique<recjpq::Catalogue>(catalogue.retire({items.data(), items.size()}));
}

// What searches share: the instruction set and the threads.
struct Searcher {
  Searcher(size_t threads, const std::string& instruction_set, bool plain)
      : kernels(recjpq::find_kernels(instruction_set)), pool(threads), plain(plain) {
    if (!kernels) throw nb::value_error(("no such instruction set here: " + instruction_set).c_str());
  }

  nb::list top_k(const recjpq::Catalogue& catalogue, const Array<float, 3>& tables, int64_t k, const nb::list& exclude,
                 const nb::list& allow, const std::optional<Array<bool, 1>>& bitmap) {
    std::vector<Array<int32_t, 1>> held;
    recjpq::Batch batch{tables.data(), static_cast<int64_t>(tables.shape(0)), static_cast<int>(tables.shape(2)), k,
                        to_items(exclude, held), to_items(allow, held), bitmap ? bitmap->data() : nullptr, plain};
    std::vector<std::vector<recjpq::Scored>> rows;
    {
      const nb::gil_scoped_release release;
      rows = recjpq::search_batch(catalogue, batch, *kernels, pool);
    }
    nb::list results;
    for (const auto& row : rows) {
      std::vector<int32_t> ids(row.size());
      std::vector<float> scores(row.size());
      for (size_t i = 0; i < row.size(); ++i) {
        scores[i] = row[i].score;
        ids[i] = row[i].item;
      }
      results.append(nb::make_tuple(to_numpy(std::move(ids)), to_numpy(std::move(scores))));
    }
    return results;
  }

  static std::vector<std::optional<recjpq::Items>> to_items(const nb::list& rows, std::vector<Array<int32_t, 1>>& held) {
    std::vector<std::optional<recjpq::Items>> items;
    items.reserve(rows.size());
    for (nb::handle row : rows) {
      if (row.is_none()) {
        items.emplace_back();
      } else {
        const auto& array = held.emplace_back(nb::cast<Array<int32_t, 1>>(row));
        items.emplace_back(recjpq::Items{array.data(), array.size()});
      }
    }
    return items;
  }

  const recjpq::Kernels* kernels;
  recjpq::Pool pool;
  bool plain;
};

int64_t first_row_not_finite(const Array<float, 3>& tables) {
  return recjpq::first_row_not_finite(tables.data(), static_cast<int64_t>(tables.shape(0)),
                                      static_cast<int64_t>(tables.shape(1) * tables.shape(2)));
}

bool all_below(const Array<int32_t, 1>& items, int64_t num_items) {
  return recjpq::all_below({items.data(), items.size()}, num_items);
}

nb::list instruction_sets() {
  nb::list names;
  for (const recjpq::Kernels* kernels : recjpq::supported_kernels()) names.append(std::string(kernels->name));
  return names;
}

// Keeps the arrays alive for as long as the index that points into them.
struct OwningIdIndex {
  template <class Offset>
  OwningIdIndex(Array<Offset, 1> offsets, Array<uint8_t, 1> data)
      : offsets(offsets), data(data), index(build(offsets, data)) {}

  template <class Offset>
  static recjpq::IdIndex build(const Array<Offset, 1>& offsets, const Array<uint8_t, 1>& data) {
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

  std::variant<Array<int32_t, 1>, Array<int64_t, 1>> offsets;
  Array<uint8_t, 1> data;
  recjpq::IdIndex index;
};

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Compiled parts of recjpq: exact scoring and item id lookup.";
  m.def("first_row_not_finite", &first_row_not_finite, "tables"_a);
  m.def("all_below", &all_below, "items"_a, "num_items"_a);
  m.def("instruction_sets", &instruction_sets);
  nb::class_<recjpq::Catalogue>(m, "Catalogue")
      .def(nb::new_(&make_catalogue), "item_codes"_a)
      .def("append", &append, "item_codes"_a)
      .def("retire", &retire, "items"_a)
      .def_prop_ro("num_items", &recjpq::Catalogue::num_items)
      .def_prop_ro("size_bytes", &recjpq::Catalogue::size_bytes);
  nb::class_<Searcher>(m, "Searcher")
      .def(nb::init<size_t, const std::string&, bool>(), "threads"_a, "instruction_set"_a, "plain"_a = false)
      .def("top_k", &Searcher::top_k, "catalogue"_a, "tables"_a, "k"_a, "exclude"_a, "allow"_a, "bitmap"_a.none())
      .def_prop_ro("instruction_set", [](const Searcher& self) { return std::string(self.kernels->name); })
      .def_prop_ro("threads", [](const Searcher& self) { return self.pool.num_threads(); });
  nb::class_<OwningIdIndex>(m, "IdIndex")
      .def(nb::init<Array<int32_t, 1>, Array<uint8_t, 1>>(), "offsets"_a, "data"_a)
      .def(nb::init<Array<int64_t, 1>, Array<uint8_t, 1>>(), "offsets"_a, "data"_a)
      .def("find", &OwningIdIndex::find, "ids"_a)
      .def_prop_ro("first_duplicate", [](const OwningIdIndex& self) { return self.index.first_duplicate(); })
      .def_prop_ro("size_bytes", [](const OwningIdIndex& self) { return self.index.size_bytes(); });
}
