#include "core/store/name_locks.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"

namespace normd {

void NameLocks::Acquire(absl::Span<const StoreMutation> mutations) {
  absl::MutexLock lock(&mutex_);
  if (!held_.empty()) {
    absl::flat_hash_set<absl::string_view> names;
    for (const StoreMutation& mutation : mutations) names.insert(mutation.name);
    const auto holds_one = [&names](absl::Span<const StoreMutation> commit) {
      return std::any_of(commit.begin(), commit.end(), [&names](const StoreMutation& mutation) {
        return names.contains(mutation.name);
      });
    };
    const auto are_free = [this, &holds_one]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return std::none_of(held_.begin(), held_.end(), holds_one);
    };
    mutex_.Await(absl::Condition(&are_free));
  }
  held_.push_back(mutations);
}

void NameLocks::Release(absl::Span<const StoreMutation> mutations) {
  const auto is_this = [mutations](absl::Span<const StoreMutation> commit) {
    return commit.data() == mutations.data() && commit.size() == mutations.size();
  };
  absl::MutexLock lock(&mutex_);
  held_.erase(std::find_if(held_.begin(), held_.end(), is_this));
}

}  // namespace normd
