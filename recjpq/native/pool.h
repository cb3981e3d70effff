// Threads that share the work of a call.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <sys/types.h>

namespace recjpq {

// `num_threads` counts the caller's own: with 1 there are no others. Any number of callers may run at once; each
// works on its own call and never waits for a worker that has not begun to help it.
class Pool {
 public:
  explicit Pool(size_t num_threads) : num_threads_(num_threads) {}
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  size_t num_threads() const { return num_threads_; }

  // Calls work(0) to work(count - 1), each once, and returns when all have returned. `work` must not throw.
  void run(size_t count, const std::function<void(size_t)>& work);

 private:
  struct Job;
  struct Workers;

  Workers& workers();

  const size_t num_threads_;
  std::atomic<Workers*> workers_{nullptr};
};

}  // namespace recjpq
