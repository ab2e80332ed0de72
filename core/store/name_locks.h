#ifndef NORMD_CORE_STORE_NAME_LOCKS_H_
#define NORMD_CORE_STORE_NAME_LOCKS_H_

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/store/state_store.h"

namespace normd {

// Holds names for the time of one commit, so that what a commit has read stays true until it
// writes, while commits on other names go on beside it. Thread-safe.
class NameLocks {
 public:
  // Waits until nobody holds any of the names, and takes them all.
  // REQUIRES: `mutations` stay as they are until they are released.
  void Acquire(absl::Span<const StoreMutation> mutations) ABSL_LOCKS_EXCLUDED(mutex_);

  void Release(absl::Span<const StoreMutation> mutations) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  // Those of each commit under way. A commit that is alone needs not look at its names.
  std::vector<absl::Span<const StoreMutation>> held_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_NAME_LOCKS_H_
