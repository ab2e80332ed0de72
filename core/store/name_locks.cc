#include "core/store/name_locks.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"

namespace normd {

void NameLocks::Acquire(absl::Span<const StoreMutation> mutations) {
  absl::flat_hash_set<absl::string_view> names;  // once they are to be looked for
  const auto are_free = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    if (held_.empty()) return true;
    if (names.empty()) {
      for (const StoreMutation& mutation : mutations) names.insert(mutation.name);
    }
    return std::none_of(held_.begin(), held_.end(), [&names](const auto& commit) {
      return std::any_of(commit.begin(), commit.end(), [&names](const StoreMutation& mutation) {
        return names.contains(mutation.name);
      });
    });
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&are_free));
  held_.push_back(mutations);
}

void NameLocks::Release(absl::Span<const StoreMutation> mutations) {
  absl::MutexLock lock(&mutex_);
  held_.erase(std::find_if(held_.begin(), held_.end(), [mutations](const auto& commit) {
    return commit.data() == mutations.data();
  }));
}

}  // namespace normd
