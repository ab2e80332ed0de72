#ifndef NORMD_SERVER_WATCH_HUB_H_
#define NORMD_SERVER_WATCH_HUB_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "core/base/limits.h"
#include "core/base/memory_budget.h"
#include "core/state/norm_state.h"

namespace normd {

// What a watcher is told of one state. Holds no value of the state: a slow watcher must not keep
// old ones in memory.
struct StateEvent {
  std::string name;
  // Of the newest durable value; for a deleted state of the last one it had.
  int64_t revision = 0;
  int64_t num_batches_tracked = 0;
  std::string etag;
  bool deleted = false;
};

// Events that wait for one reader: one a state, the newest, in the order in which the states first
// changed; when too many states wait, or the watches' memory is full, none but the news that some
// were missed. Movable; thread-compatible.
class PendingEvents {
 public:
  // `memory` outlives the events.
  PendingEvents(int64_t states_max, MemoryBudget* memory)
      : states_max_(states_max), memory_(memory, MemoryUse::kWatches) {}

  void Put(StateEvent event);
  // Drops what waits: the reader is to be told that it missed events.
  void MarkMissed();
  // The next event into `event`; false when there is none. `*missed` tells that events before it
  // were dropped; then `event` is not set.
  bool Take(StateEvent& event, bool* missed);

 private:
  const int64_t states_max_;
  std::deque<std::string> order_;
  absl::flat_hash_map<std::string, StateEvent> newest_;
  MemoryReservation memory_;  // of all that wait
  bool missed_ = false;
};

// Passes on changes of states to those who watch, on a thread of its own, so that the write path
// never waits for a watcher. Thread-safe.
class WatchHub {
 public:
  using Sink = std::function<void(const StateEvent* event)>;  // null: events were missed

  // `memory` outlives the hub and the events that wait for its watchers.
  WatchHub(int64_t pending_states_max, MemoryBudget* memory);
  ~WatchHub();

  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // Calls `sink` with every later change of a state whose name begins with `prefix`, on the hub's
  // thread, until Unsubscribe returns. The sink must not block. Gives a number for Unsubscribe.
  int64_t Subscribe(absl::string_view prefix, Sink sink);
  // REQUIRES: not called by a sink.
  void Unsubscribe(int64_t subscription);

  // What counts the events that wait for a watcher.
  MemoryBudget* memory() const { return memory_; }

  // A change of a state; see RegistryObserver::OnPublished. A state that was made and deleted in
  // one commit has neither value, and nobody is told of it.
  void Publish(const std::string& name, const std::shared_ptr<const NormState>& before,
               const std::shared_ptr<const NormState>& state);

 private:
  struct Subscription {
    int64_t number = 0;
    std::string prefix;
    Sink sink;
  };

  void Run();

  MemoryBudget* const memory_;

  // How many watch; lets Publish return at once when nobody does.
  std::atomic<int64_t> subscription_count_ = 0;

  absl::Mutex sinks_mutex_;
  std::vector<Subscription> subscriptions_ ABSL_GUARDED_BY(sinks_mutex_);
  int64_t next_number_ ABSL_GUARDED_BY(sinks_mutex_) = 1;

  absl::Mutex mutex_;
  absl::CondVar wake_;
  PendingEvents pending_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace normd

#endif  // NORMD_SERVER_WATCH_HUB_H_
