#ifndef NORMD_CORE_BASE_PARALLEL_H_
#define NORMD_CORE_BASE_PARALLEL_H_

#include <cstddef>
#include <memory>

#include "absl/functional/function_ref.h"

namespace normd {

// Runs the pieces of one computation on several threads. Thread-safe.
class ParallelRunner {
 public:
  virtual ~ParallelRunner() = default;

  // How many pieces can run at once; >= 1.
  virtual size_t width() const = 0;

  // Calls work(i) for every i in [0, pieces), on this thread and on others that are idle, in any
  // order; returns when all have returned. `work` must not block and must not call Run.
  virtual void Run(size_t pieces, absl::FunctionRef<void(size_t)> work) = 0;

  // Runs everything on the caller's thread; lives for ever.
  static ParallelRunner* Inline();
};

// A runner with `threads` - 1 threads of its own beside the caller's. REQUIRES: threads >= 1.
std::unique_ptr<ParallelRunner> MakeParallelRunner(int threads);

}  // namespace normd

#endif  // NORMD_CORE_BASE_PARALLEL_H_
