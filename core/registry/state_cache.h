#ifndef NORMD_CORE_REGISTRY_STATE_CACHE_H_
#define NORMD_CORE_REGISTRY_STATE_CACHE_H_

#include <array>
#include <atomic>
#include <cstddef>
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
#include "absl/types/span.h"
#include "core/base/memory_budget.h"
#include "core/registry/state_entry.h"

namespace normd {

// The entries in memory, the least recently used (about) evicted when they outgrow their bytes: a
// maximum of their own, and what the other uses of memory leave them. An entry that somebody holds
// is never evicted, so a name has one entry at a time. Thread-safe; never waits for a disk.
class StateCache {
 public:
  using Waiter = absl::AnyInvocable<void(absl::StatusOr<std::shared_ptr<StateEntry>>)>;

  // `memory` outlives the cache.
  StateCache(int64_t bytes_max, MemoryBudget* memory);
  ~StateCache();

  StateCache(const StateCache&) = delete;
  StateCache& operator=(const StateCache&) = delete;

  // The entry of `name`, or null.
  std::shared_ptr<StateEntry> Find(absl::string_view name);

  // Uses those entries that are there: asks the processor for their memory and for what `use` takes
  // of their values (see Prefetch), step by step for all together, so that they are not waited for
  // one after the other.
  void PrefetchStates(absl::Span<const absl::string_view> names, StateUse use);

  // The entry of `name`, or null. On null `waiter` is kept until Finish(name); it is left alone
  // otherwise. `*must_load` says whether the caller is the first and so has to load the entry.
  std::shared_ptr<StateEntry> FindOrWait(absl::string_view name, Waiter& waiter, bool* must_load);

  // Ends the load of `name`: keeps the entry, when there is one, and returns it (or the error) to
  // everyone who waited, in the order of their coming.
  void Finish(absl::string_view name, absl::StatusOr<std::shared_ptr<StateEntry>> loaded);

  // Tells that the value of `name` has changed its size.
  void Recharge(absl::string_view name);

  // Evicts what the other uses of memory ask back. Quick when they do not.
  void GiveWay();

  // Bytes of memory that the entries hold, about.
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Slot {
    std::shared_ptr<StateEntry> entry;
    std::list<absl::string_view>::iterator recent;
    int64_t bytes = 0;
    bool used = false;  // since it last came to the front of `recent`
  };

  static constexpr size_t kShards = 16;

  struct Shard {
    absl::Mutex mutex;
    // The keys of `slots`; they view the names of the entries. The last is evicted next, unless it
    // was used: then it comes to the front, so that a use itself moves nothing (second chance).
    std::list<absl::string_view> recent ABSL_GUARDED_BY(mutex);
    absl::flat_hash_map<absl::string_view, Slot> slots ABSL_GUARDED_BY(mutex);
    absl::flat_hash_map<std::string, std::vector<Waiter>> loading ABSL_GUARDED_BY(mutex);
  };

  static size_t ShardOf(absl::string_view name);
  static std::shared_ptr<StateEntry> FindLocked(Shard& shard, absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

  // Counts `bytes` more (or less).
  void Charge(int64_t bytes);

  // Evicts from one shard after the other, beginning with the one numbered `first`, until the
  // entries keep to their bytes.
  void Shrink(size_t first);
  // Evicts from `shard` until all shards together keep to `bytes_max`.
  void Evict(Shard& shard, int64_t bytes_max) ABSL_LOCKS_EXCLUDED(shard.mutex);

  // Constant after construction.
  const int64_t bytes_max_;
  MemoryBudget* const memory_;

  std::array<Shard, kShards> shards_;
  std::atomic<int64_t> bytes_ = 0;  // of all shards

  std::atomic<bool> giving_way_ = false;  // on some thread
  std::atomic<size_t> gives_way_next_ = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_CACHE_H_
