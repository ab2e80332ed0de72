#include "core/base/parallel.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normd {
namespace {

class InlineRunner final : public ParallelRunner {
 public:
  size_t width() const override { return 1; }
  void Run(size_t pieces, absl::FunctionRef<void(size_t)> work) override {
    for (size_t piece = 0; piece < pieces; ++piece) work(piece);
  }
};

// The threads take pieces of the oldest computation that has some left; the caller takes pieces of
// its own computation, so that it never waits for an idle thread.
class PoolRunner final : public ParallelRunner {
 public:
  explicit PoolRunner(int threads) {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { Serve(); });
  }

  ~PoolRunner() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      wake_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  size_t width() const override { return threads_.size() + 1; }

  void Run(size_t pieces, absl::FunctionRef<void(size_t)> work) override {
    if (pieces <= 1 || threads_.empty()) {
      for (size_t piece = 0; piece < pieces; ++piece) work(piece);
      return;
    }
    Computation computation{work, pieces};
    absl::MutexLock lock(&mutex_);
    queue_.push_back(&computation);
    const size_t helpers = std::min(pieces - 1, threads_.size());
    for (size_t i = 0; i < helpers; ++i) wake_.Signal();
    while (TakePiece(computation)) {
    }
    const auto done = [&computation] { return computation.returned == computation.pieces; };
    mutex_.Await(absl::Condition(&done));
  }

 private:
  // Guarded by mutex_.
  struct Computation {
    absl::FunctionRef<void(size_t)> work;
    size_t pieces;
    size_t taken = 0;
    size_t returned = 0;
  };

  // Runs one piece; false when all are taken.
  bool TakePiece(Computation& computation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (computation.taken == computation.pieces) return false;
    const size_t piece = computation.taken++;
    if (computation.taken == computation.pieces) {
      queue_.erase(std::find(queue_.begin(), queue_.end(), &computation));
    }
    mutex_.Unlock();
    computation.work(piece);
    mutex_.Lock();
    ++computation.returned;
    return true;
  }

  void Serve() {
    absl::MutexLock lock(&mutex_);
    while (true) {
      while (queue_.empty() && !stopping_) wake_.Wait(&mutex_);
      if (queue_.empty()) return;
      TakePiece(*queue_.front());
    }
  }

  absl::Mutex mutex_;
  absl::CondVar wake_;
  std::deque<Computation*> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Constant after construction.
  std::vector<std::thread> threads_;
};

}  // namespace

ParallelRunner* ParallelRunner::Inline() {
  static auto* const kRunner = new InlineRunner();
  return kRunner;
}

std::unique_ptr<ParallelRunner> MakeParallelRunner(int threads) {
  return std::make_unique<PoolRunner>(threads);
}

}  // namespace normd
