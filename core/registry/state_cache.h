#ifndef NORMD_CORE_REGISTRY_STATE_CACHE_H_
#define NORMD_CORE_REGISTRY_STATE_CACHE_H_

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "core/registry/state_entry.h"

namespace normd {

// The entries in memory, the least recently used evicted when they outgrow a budget of bytes. An
// entry that somebody holds is never evicted, so a name has one entry at a time. Thread-safe; never
// waits for a disk.
class StateCache {
 public:
  using Waiter = absl::AnyInvocable<void(absl::StatusOr<std::shared_ptr<StateEntry>>)>;

  explicit StateCache(int64_t bytes_max);

  StateCache(const StateCache&) = delete;
  StateCache& operator=(const StateCache&) = delete;

  // The entry of `name`, or null.
  std::shared_ptr<StateEntry> Find(absl::string_view name);

  // The entry of `name`, or null. On null `waiter` is kept until Finish(name); it is left alone
  // otherwise. `*must_load` says whether the caller is the first and so has to load the entry.
  std::shared_ptr<StateEntry> FindOrWait(absl::string_view name, Waiter& waiter, bool* must_load);

  // Ends the load of `name`: keeps the entry, when there is one, and returns it (or the error) to
  // everyone who waited, in the order of their coming.
  void Finish(absl::string_view name, absl::StatusOr<std::shared_ptr<StateEntry>> loaded);

  // Tells that the value of `name` has changed its size.
  void Recharge(absl::string_view name);

  // Bytes of memory that the entries hold, about.
  int64_t bytes() const;

 private:
  struct Slot {
    std::shared_ptr<StateEntry> entry;
    std::list<absl::string_view>::iterator recent;
    int64_t bytes = 0;
  };

  static constexpr size_t kShards = 16;

  struct Shard {
    mutable absl::Mutex mutex;
    // The keys of `slots`, most recently used first; they view the names of the entries.
    std::list<absl::string_view> recent ABSL_GUARDED_BY(mutex);
    absl::flat_hash_map<absl::string_view, Slot> slots ABSL_GUARDED_BY(mutex);
    absl::flat_hash_map<std::string, std::vector<Waiter>> loading ABSL_GUARDED_BY(mutex);
    int64_t bytes ABSL_GUARDED_BY(mutex) = 0;
  };

  static std::shared_ptr<StateEntry> FindLocked(Shard& shard, absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);
  Shard& ShardOf(absl::string_view name);
  // Moves entries out of `shard` until it keeps to its part of the budget.
  void Evict(Shard& shard, std::vector<std::shared_ptr<StateEntry>>& evicted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

  const int64_t shard_bytes_max_;
  std::array<Shard, kShards> shards_;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_CACHE_H_
