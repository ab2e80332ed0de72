#include "core/store/memory_state_store.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/error.h"

namespace normd {
namespace {

class MemoryStateStore final : public StateStore {
 public:
  absl::StatusOr<StoredRecord> Load(absl::string_view name) const override {
    absl::ReaderMutexLock lock(&mutex_);
    const auto it = records_.find(std::string(name));
    if (it == records_.end()) {
      return MakeError(Reason::kStateNotFound, absl::StrCat("no record has the name '", name, "'"),
                       {{"name", name}});
    }
    return StoredRecord{it->first, it->second.revision, it->second.data};
  }

  absl::Status Commit(absl::Span<const StoreMutation> mutations) override {
    absl::MutexLock lock(&mutex_);
    for (const StoreMutation& mutation : mutations) {
      const auto it = records_.find(mutation.name);
      const int64_t found = it == records_.end() ? 0 : it->second.revision;
      if (found != mutation.expected_revision && !IsMade(mutation)) {
        return MakeError(Reason::kRevisionConflict,
                         absl::StrCat("record '", mutation.name, "' is at revision ", found,
                                      ", expected ", mutation.expected_revision, " (0: no record)"),
                         {{"name", mutation.name}});
      }
    }
    for (const StoreMutation& mutation : mutations) {
      if (mutation.data.has_value()) {
        records_[mutation.name] = {mutation.revision, *mutation.data};
      } else {
        records_.erase(mutation.name);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<StoredRecord>> List(absl::string_view prefix, absl::string_view after,
                                                 int64_t records_max,
                                                 int64_t bytes_max) const override {
    std::vector<StoredRecord> found;
    int64_t bytes = 0;
    absl::ReaderMutexLock lock(&mutex_);
    auto it = after < prefix ? records_.lower_bound(std::string(prefix))
                             : records_.upper_bound(std::string(after));
    // Without a prefix every name is wanted, and no name is empty.
    for (; it != records_.end() && absl::StartsWith(it->first, prefix); ++it) {
      const auto& [name, value] = *it;
      if (!found.empty() && (static_cast<int64_t>(found.size()) >= records_max ||
                             bytes + static_cast<int64_t>(value.data.size()) > bytes_max)) {
        break;
      }
      bytes += static_cast<int64_t>(value.data.size());
      found.push_back({name, value.revision, value.data});
    }
    return found;
  }

 private:
  struct Value {
    int64_t revision = 0;
    std::string data;
  };

  bool IsMade(const StoreMutation& mutation) const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    const auto it = records_.find(mutation.name);
    if (!mutation.data.has_value()) return it == records_.end();
    return it != records_.end() && it->second.revision == mutation.revision &&
           it->second.data == *mutation.data;
  }

  mutable absl::Mutex mutex_;
  std::map<std::string, Value> records_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<StateStore> NewMemoryStateStore() { return std::make_unique<MemoryStateStore>(); }

}  // namespace normd
