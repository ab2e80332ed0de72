#include "client/load/process.h"

#include <malloc.h>

#include "absl/synchronization/mutex.h"

namespace normd::load {

void TuneProcess() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  // As much as fits: the limit is an int for mallopt.
  mallopt(M_TRIM_THRESHOLD, 2147483647);
  mallopt(M_TOP_PAD, 64 << 20);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace normd::load
