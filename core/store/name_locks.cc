#include "core/store/name_locks.h"

namespace normd {

void NameLocks::Acquire(absl::Span<const StoreMutation> mutations) {
  const auto are_free = [this, mutations]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    for (const StoreMutation& mutation : mutations) {
      if (held_.contains(mutation.name)) return false;
    }
    return true;
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&are_free));
  for (const StoreMutation& mutation : mutations) held_.insert(mutation.name);
}

void NameLocks::Release(absl::Span<const StoreMutation> mutations) {
  absl::MutexLock lock(&mutex_);
  for (const StoreMutation& mutation : mutations) held_.erase(mutation.name);
}

}  // namespace normd
