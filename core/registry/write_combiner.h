#ifndef NORMD_CORE_REGISTRY_WRITE_COMBINER_H_
#define NORMD_CORE_REGISTRY_WRITE_COMBINER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/memory_budget.h"
#include "core/registry/registry_observer.h"
#include "core/registry/state_change.h"
#include "core/registry/state_entry.h"
#include "core/registry/state_pool.h"
#include "core/state/state_codec.h"
#include "core/store/state_store.h"

namespace normd {

// The write path of a shard of the names. A change is applied on arrival, on the thread that brings
// it, to the draft of its state; one thread commits whatever drafts have changed since its last
// commit, one record a state with one sync for all, makes them visible, and answers everyone who
// waited. So a submitter never waits for a disk, and k changes of a state cost one record.
// Thread-safe.
class WriteCombiner {
 public:
  struct Options {
    // Changes that may wait for a commit; more are refused with WRITE_QUEUE_FULL. The last quarter
    // is for states of which none waits, so that a busy state leaves room for the others.
    int64_t pending_updates_max = kDefaultPendingUpdates;
    // Bytes of drafts that may wait for a commit; more changes are refused with WRITE_QUEUE_FULL.
    // From half of it on a relaxed change is answered as a durable one, which slows its sender.
    int64_t dirty_bytes_max = kDefaultDirtyBytes;
    // Bytes of memory of past copies of states, and as many of past records, that are kept for the
    // next ones.
    int64_t idle_bytes_max = kIdleStateBytesMax;
    // How long a relaxed change waits for others before it is committed. One that is waited for, a
    // quarter of dirty_bytes_max or the end does not let it wait: then all are committed at once.
    absl::Duration relaxed_commit_delay = kDefaultRelaxedCommitDelay;
    // How long to wait before a commit that the store could not take is tried again.
    absl::Duration retry_delay = absl::Milliseconds(100);
    // Runs the answers of a commit, of which the next commit shall not wait; null: they are run in
    // between.
    std::function<void(absl::AnyInvocable<void()> answers)> run_answers = nullptr;
  };

  // Everything passed in outlives the combiner.
  WriteCombiner(const Options& options, MemoryBudget* memory, StateStore* store, const Clock* clock,
                RegistryObserver* observer);
  // Shuts down.
  ~WriteCombiner();

  WriteCombiner(const WriteCombiner&) = delete;
  WriteCombiner& operator=(const WriteCombiner&) = delete;

  // Applies `change` to the state of `entry` and answers it as StateChange::OnDone says; the answer
  // may come before Submit returns.
  // REQUIRES: every entry of a name is submitted to the same combiner.
  void Submit(const std::shared_ptr<StateEntry>& entry, std::unique_ptr<StateChange> change);

  // Refuses new changes with SHUTTING_DOWN, commits those applied, and returns when that is done
  // and they have been answered or are with run_answers. A store that cannot take the last commit
  // gets `patience`; then the changes are answered with SHUTTING_DOWN. Idempotent.
  void Shutdown(absl::Duration patience);

 private:
  // One state of a commit, and who waits for it.
  struct Sealed {
    std::shared_ptr<StateEntry> entry;
    int64_t expected_revision = 0;
    std::shared_ptr<const NormState> state;  // null: deleted
    bool changed = false;                    // false: only waited for
    std::vector<StateEntry::Write::Waiter> waiters;
    int64_t bytes = 0;
  };
  using Batch = std::vector<Sealed>;

  void Run();
  // Whether what is queued is to be committed now.
  bool IsDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits until something is to be committed; false when nothing will ever be.
  bool AwaitDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // OK when a change of the state of `write` may be applied now.
  absl::Status Admit(const StateEntry::Write& write) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Counts `bytes` more (or less) that wait for the disk.
  void AddDirtyBytes(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts the entry into the next commit, with as many bytes as its draft has now.
  void Enqueue(const std::shared_ptr<StateEntry>& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes what is queued, up to kCommitBytesMax.
  Batch Seal() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The changes of the batch, in the order of their names, until KeepFewRecords.
  absl::Span<const StoreMutation> Encode(const Batch& batch);
  // Commits, trying again while the store is blocked; returns why it never will.
  absl::Status Commit(absl::Span<const StoreMutation> mutations);
  // Lets go of the records when they take much memory.
  void KeepFewRecords();
  // Waits; false when there is no more patience.
  bool WaitBeforeRetry(const absl::Status& status);
  // Makes what the batch changed visible to readers.
  void Publish(const Batch& batch);
  // Lets go of what the batch held of the limits; its commit took `time`. How many wait for it.
  int64_t Release(const Batch& batch, absl::Duration time);
  // Answers those who waited: with what Apply said when `committed` is OK, else with it.
  static void Answer(Batch batch, const absl::Status& committed);

  // Constant after construction.
  const Options options_;
  StateStore* const store_;
  const Clock* const clock_;
  RegistryObserver* const observer_;

  StatePool pool_;
  // The committer's, whose memory is used again.
  StateEncoder encoder_;
  std::vector<StoreMutation> mutations_;
  int64_t record_bytes_ = 0;       // of memory that their names and data take
  MemoryReservation kept_memory_;  // of theirs, as of the last commit

  absl::Mutex mutex_;
  absl::CondVar wake_;
  std::deque<std::shared_ptr<StateEntry>> queue_ ABSL_GUARDED_BY(mutex_);
  absl::Time queued_since_ ABSL_GUARDED_BY(mutex_);  // something is queued
  int64_t pending_updates_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t gathers_ ABSL_GUARDED_BY(mutex_) = 1;  // so many pending updates make a commit due
  int64_t last_commit_updates_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration last_commit_time_ ABSL_GUARDED_BY(mutex_);
  int64_t dirty_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  MemoryReservation memory_ ABSL_GUARDED_BY(mutex_);  // of dirty_bytes_
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration patience_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  // Not OK: why no change is taken, while the store is blocked or after a fatal error.
  absl::Status blocked_ ABSL_GUARDED_BY(mutex_);

  absl::Mutex join_mutex_;
  std::thread committer_ ABSL_GUARDED_BY(join_mutex_);
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_WRITE_COMBINER_H_
