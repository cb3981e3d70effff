#include "pool.h"

#include <algorithm>

#include <unistd.h>

namespace recjpq {

struct Pool::Job {
  const std::function<void(size_t)>& work;
  size_t count;
  size_t next = 0;     // guarded by Workers::mutex
  size_t running = 0;  // likewise
};

// The threads of one process.
struct Pool::Workers {
  explicit Workers(size_t count) : process(getpid()) {
    for (size_t i = 0; i < count; ++i) threads.emplace_back([this] { loop(); });
  }

  ~Workers() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void loop() {
    std::unique_lock lock(mutex);
    while (true) {
      wake.wait(lock, [this] { return stopping || !jobs.empty(); });
      if (stopping) return;
      help(*jobs.front(), lock);
    }
  }

  // Does the job's next piece, if there is one; the lock is held before and after.
  bool help(Job& job, std::unique_lock<std::mutex>& lock) {
    if (job.next == job.count) return false;
    const size_t piece = job.next++;
    if (job.next == job.count) jobs.erase(std::find(jobs.begin(), jobs.end(), &job));
    ++job.running;
    lock.unlock();
    job.work(piece);
    lock.lock();
    if (--job.running == 0) done.notify_all();
    return true;
  }

  const pid_t process;
  std::mutex mutex;
  std::condition_variable wake, done;
  std::deque<Job*> jobs;  // those with pieces that nobody has begun
  bool stopping = false;
  std::vector<std::thread> threads;
};

Pool::~Pool() {
  Workers* workers = workers_.load();
  if (workers && workers->process == getpid()) delete workers;
}

// A forked child has none of its parent's threads, and the parent's mutex may have been locked when it forked: it
// leaves the parent's workers where they are and makes its own, when first needed.
Pool::Workers& Pool::workers() {
  Workers* known = workers_.load(std::memory_order_acquire);
  while (!known || known->process != getpid()) {
    auto made = std::make_unique<Workers>(num_threads_ - 1);
    if (workers_.compare_exchange_strong(known, made.get())) return *made.release();
  }
  return *known;
}

void Pool::run(size_t count, const std::function<void(size_t)>& work) {
  if (num_threads_ == 1 || count <= 1) {
    for (size_t piece = 0; piece < count; ++piece) work(piece);
    return;
  }
  Workers& shared = workers();
  Job job{work, count};
  std::unique_lock lock(shared.mutex);
  shared.jobs.push_back(&job);
  shared.wake.notify_all();
  while (shared.help(job, lock)) {
  }
  shared.done.wait(lock, [&] { return job.running == 0; });
}

}  // namespace recjpq
