// Random catalogues, tables, filters and changes against brute force, on every instruction set of this machine. Built
// with sanitizers by test_sanitizers.py or by the CMake option RECJPQ_FUZZ, without Python.
//
//   fuzz_scoring [number of rounds]      prints the seed of a round that fails, and returns 1
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "batch.h"
#include "catalogue.h"
#include "kernels.h"

using namespace recjpq;

namespace {

struct Random {
  std::mt19937_64 engine;

  int64_t below(int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(n)); }
  float normal() { return std::normal_distribution<float>()(engine); }
  template <typename T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<int64_t>(choices.size()))];
  }
};

// Exactly as large as its content, on the heap: a read beyond it is found.
std::shared_ptr<const uint8_t> exact_copy(const std::vector<uint8_t>& bytes) {
  std::shared_ptr<uint8_t> copy(new uint8_t[bytes.size()], std::default_delete<uint8_t[]>());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return copy;
}

std::vector<uint8_t> random_codes(Random& random, int64_t num_items, int num_splits, int num_sub_ids) {
  std::vector<uint8_t> codes(static_cast<size_t>(num_items * num_splits));
  for (auto& code : codes) code = static_cast<uint8_t>(random.below(num_sub_ids));
  return codes;
}

std::vector<float> random_tables(Random& random, int64_t num_rows, int num_splits, int num_sub_ids) {
  std::vector<float> tables(static_cast<size_t>(num_rows * num_splits * num_sub_ids));
  const float scale = random.one_of({1.0f, 1e-40f, 1e30f, 8e36f});
  const bool rounded = random.below(2);  // few distinct values: ties
  float walk = 0.0f;
  for (auto& entry : tables) {
    walk = 0.95f * walk + random.normal();  // neighbours alike, so that blocks are skipped
    entry = (rounded ? std::round(walk) : walk) * scale;
    if (random.below(500) == 0) entry = random.one_of({-3e38f, 1e30f, -0.0f});
  }
  return tables;
}

std::vector<int32_t> random_items(Random& random, int64_t num_items) {
  std::vector<int32_t> items(static_cast<size_t>(random.below(random.one_of<int64_t>({2, 20, 3000}))));
  for (auto& item : items) item = static_cast<int32_t>(random.below(num_items));
  return items;
}

struct Model {  // what a catalogue should hold
  std::vector<uint8_t> codes;
  std::set<int32_t> retired;
};

std::vector<Scored> brute_force(const Model& model, const Batch& batch, size_t row, int num_splits) {
  const auto num_items = static_cast<int32_t>(model.codes.size() / static_cast<size_t>(num_splits));
  std::vector<bool> eligible(static_cast<size_t>(num_items), !batch.allow[row]);
  if (batch.allow[row]) {
    for (const int32_t item : *batch.allow[row]) eligible[static_cast<size_t>(item)] = true;
  }
  if (batch.exclude[row]) {
    for (const int32_t item : *batch.exclude[row]) eligible[static_cast<size_t>(item)] = false;
  }
  std::vector<Scored> all;
  for (int32_t item = 0; item < num_items; ++item) {
    if (!eligible[static_cast<size_t>(item)] || model.retired.count(item)) continue;
    if (batch.bitmap && !batch.bitmap[item]) continue;
    float sum = 0.0f;
    for (int j = 0; j < num_splits; ++j) {
      const size_t table_row = row * static_cast<size_t>(num_splits) + static_cast<size_t>(j);
      sum += batch.tables[table_row * static_cast<size_t>(batch.num_sub_ids) +
                          model.codes[static_cast<size_t>(item) * static_cast<size_t>(num_splits) +
                                      static_cast<size_t>(j)]];
    }
    all.push_back({sum, item});
  }
  std::sort(all.begin(), all.end(), [](const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.item < b.item);
  });
  if (static_cast<int64_t>(all.size()) > batch.k) all.resize(static_cast<size_t>(batch.k));
  return all;
}

bool same(const std::vector<Scored>& a, const std::vector<Scored>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Scored& x, const Scored& y) { return x.item == y.item && x.score == y.score; });
}

bool check_searches(Random& random, const Catalogue& catalogue, const Model& model, int num_sub_ids, Pool& pool) {
  const int64_t num_items = catalogue.num_items();
  const int64_t num_rows = random.one_of<int64_t>({0, 1, 3});
  const std::vector<float> tables = random_tables(random, num_rows, catalogue.num_splits(), num_sub_ids);
  if (first_row_not_finite(tables.data(), num_rows, catalogue.num_splits() * num_sub_ids) != -1) return false;
  std::vector<std::vector<int32_t>> lists;
  lists.reserve(static_cast<size_t>(2 * num_rows));
  Batch batch{tables.data(), num_rows, num_sub_ids, 1 + random.below(random.one_of<int64_t>({1, 20, num_items})), {}, {}};
  for (int64_t row = 0; row < num_rows; ++row) {
    for (auto* filter : {&batch.exclude, &batch.allow}) {
      if (random.below(3)) {
        filter->emplace_back();
      } else {
        filter->emplace_back(lists.emplace_back(random_items(random, num_items)));
      }
    }
  }
  std::unique_ptr<bool[]> bitmap;
  if (random.below(2)) {
    const int64_t density = random.one_of<int64_t>({0, 1, 500});
    bitmap.reset(new bool[static_cast<size_t>(num_items)]);
    for (int64_t i = 0; i < num_items; ++i) bitmap[static_cast<size_t>(i)] = random.below(1000) < density;
    batch.bitmap = bitmap.get();
  }
  for (const Kernels* kernels : supported_kernels()) {
    const auto found = search_batch(catalogue, batch, *kernels, pool);
    for (size_t row = 0; row < found.size(); ++row) {
      if (same(found[row], brute_force(model, batch, row, catalogue.num_splits()))) continue;
      std::printf("%s: row %zu differs\n", std::string(kernels->name).c_str(), row);
      return false;
    }
  }
  return true;
}

bool check_round(uint64_t seed) {
  Random random{std::mt19937_64(seed)};
  const int num_splits = random.one_of({1, 2, 3, 8, 9, 64});
  const int num_sub_ids = random.one_of({1, 2, 17, 100, 256});
  const int64_t num_items = random.one_of<int64_t>({1, 63, 64, 65, 4096, 4097, 20000});
  Pool pool(static_cast<size_t>(random.one_of({1, 3})));
  Model model{random_codes(random, num_items, num_splits, num_sub_ids), {}};
  Catalogue catalogue(exact_copy(model.codes), num_items, num_splits);
  for (int change = 0; change < 3; ++change) {
    if (!check_searches(random, catalogue, model, num_sub_ids, pool)) return false;
    const int64_t more = 1 + random.below(200);
    const std::vector<uint8_t> codes = random_codes(random, more, num_splits, num_sub_ids);
    catalogue = catalogue.append(exact_copy(codes), more);
    model.codes.insert(model.codes.end(), codes.begin(), codes.end());
    const std::vector<int32_t> items = random_items(random, catalogue.num_items());
    catalogue = catalogue.retire(items);
    model.retired.insert(items.begin(), items.end());
  }
  return check_searches(random, catalogue, model, num_sub_ids, pool);
}

// Sixteen callers of one catalogue and one pool, large enough that a search shares its pages.
bool check_threads() {
  constexpr int kCallers = 16;
  constexpr int64_t kItems = 300'000;
  Random random{std::mt19937_64(1)};
  const std::vector<uint8_t> codes = random_codes(random, kItems, 4, 256);
  const Catalogue catalogue(exact_copy(codes), kItems, 4);
  std::vector<float> tables(size_t{4} * 256);
  for (auto& entry : tables) entry = random.normal();
  const Batch batch{tables.data(), 1, 256, 10, {std::nullopt}, {std::nullopt}};
  const Kernels& kernels = *find_kernels("");
  Pool pool(4), alone(1);
  const auto expected = search_batch(catalogue, batch, kernels, alone).front();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      for (int call = 0; call < 5; ++call) wrong += !same(search_batch(catalogue, batch, kernels, pool).front(), expected);
    });
  }
  for (auto& caller : callers) caller.join();
  return wrong == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
  for (int seed = 0; seed < rounds; ++seed) {
    if (!check_round(static_cast<uint64_t>(seed))) {
      std::printf("seed %d failed\n", seed);
      return 1;
    }
  }
  if (!check_threads()) {
    std::printf("threads failed\n");
    return 1;
  }
  std::printf("%d rounds passed\n", rounds);
  return 0;
}
