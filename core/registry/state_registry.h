#ifndef NORMD_CORE_REGISTRY_STATE_REGISTRY_H_
#define NORMD_CORE_REGISTRY_STATE_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/memory_budget.h"
#include "core/base/thread_pool.h"
#include "core/registry/registry_observer.h"
#include "core/registry/state_cache.h"
#include "core/registry/state_change.h"
#include "core/registry/state_entry.h"
#include "core/registry/write_combiner.h"
#include "core/store/state_store.h"

namespace normd {

// A hold on one name: keeps what is known of it in memory. Cheap to copy; thread-safe.
class StateHandle {
 public:
  // The value on disk when asked; null when there is no such state. It never changes: a later value
  // is another object.
  std::shared_ptr<const NormState> Get() const { return entry_->published(); }

  const std::string& name() const { return entry_->name(); }

 private:
  friend class StateRegistry;
  explicit StateHandle(std::shared_ptr<StateEntry> entry) : entry_(std::move(entry)) {}

  std::shared_ptr<StateEntry> entry_;
};

// One page of a list.
struct StatePage {
  std::vector<std::shared_ptr<const NormState>> states;  // in the order of their names
  std::vector<std::string> damaged;                      // names whose record is damaged
  std::string next_after;  // name to go on after; empty: the last page
};

// All states: a cache over a store, one write path. Loads a state on first use. No call waits for a
// disk; what needs one goes on, on a loader thread. Thread-safe.
class StateRegistry {
 public:
  struct Options {
    int64_t cache_bytes_max = kDefaultCacheBytes;
    // Counts the cache and the write path; both keep to their shares. Outlives the registry.
    MemoryBudget* memory = MemoryBudget::Unlimited();
    int loader_threads = static_cast<int>(kDefaultLoaderThreads);
    int write_shards = static_cast<int>(kDefaultWriteShards);
    // Divided among the write shards.
    WriteCombiner::Options write;
  };

  using AcquireCallback = absl::AnyInvocable<void(absl::StatusOr<StateHandle>)>;
  using ListCallback = absl::AnyInvocable<void(absl::StatusOr<StatePage>)>;

  // Everything passed in outlives the registry.
  StateRegistry(const Options& options, StateStore* store, const Clock* clock,
                RegistryObserver* observer);
  // Shuts down.
  ~StateRegistry();

  StateRegistry(const StateRegistry&) = delete;
  StateRegistry& operator=(const StateRegistry&) = delete;

  // Gives a hold on `name`, whether there is such a state or not: before it returns when the name
  // is in memory, else from a loader thread. Two calls under way at once may be answered in either
  // order: who needs an order makes the second call after the first answer. Evicts what other uses
  // of memory have asked back: who takes memory for a request does so before it acquires.
  // Errors: STATE_NAME_INVALID, RECORD_DAMAGED, STORE_UNAVAILABLE.
  void Acquire(absl::string_view name, AcquireCallback done);
  // The same for a name that is in memory; nothing for others.
  std::optional<StateHandle> TryAcquire(absl::string_view name);
  // Tells that these names are likely to be acquired soon for `use`, which counts as a use of those
  // that are in memory: the processor is asked for what it does not have in its caches of them.
  // Loads nothing.
  void PrefetchStates(absl::Span<const absl::string_view> names, StateUse use) {
    cache_.PrefetchStates(names, use);
  }

  // Applies a change to the state that `handle` holds, on this thread; it is answered as
  // StateChange::OnDone says. Changes of a name are applied in the order of the calls.
  void Submit(const StateHandle& handle, std::unique_ptr<StateChange> change);

  // Reads the states whose names begin with `prefix` and follow `after`, at most `states_max`, from
  // the store. Errors: STORE_UNAVAILABLE.
  void List(absl::string_view prefix, absl::string_view after, int64_t states_max,
            ListCallback done);

  // Refuses new changes, and commits and answers those applied; see WriteCombiner::Shutdown.
  // Reading goes on. Idempotent.
  void Shutdown(absl::Duration patience);

  // Bytes of memory in the cache, about.
  int64_t cache_bytes() const { return cache_.bytes(); }

 private:
  // Tells the cache of new sizes on the way to the observer.
  class CacheKeeper;

  absl::StatusOr<std::shared_ptr<StateEntry>> Load(const std::string& name) const;

  // Constant after construction.
  StateStore* const store_;

  StateCache cache_;
  std::unique_ptr<CacheKeeper> cache_keeper_;
  std::vector<std::unique_ptr<WriteCombiner>> combiners_;
  // Last, so that it ends before what its jobs use.
  std::unique_ptr<ThreadPool> loaders_;
};

// The error for a name that has no state: STATE_NOT_FOUND.
absl::Status StateNotFound(absl::string_view name);

// `status` with the name of the state that it is about before its message.
absl::Status OfState(const absl::Status& status, absl::string_view name);

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_REGISTRY_H_
