#include "core/registry/write_combiner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/prefetch.h"
#include "core/state/state_codec.h"

namespace normd {
namespace {

// However long the last commit took.
constexpr absl::Duration kGatherTimeMax = absl::Milliseconds(2);

// A commit is made of states of which most lie in no cache of the processor: who goes through them
// asks for each so many before its turn comes.
constexpr size_t kEntriesAhead = 8;
constexpr size_t kStatesAhead = 6;
constexpr size_t kArraysAhead = 3;
static_assert(kArraysAhead < kStatesAhead, "a state tells where its arrays are");

// Of memory, beside the mutation itself.
int64_t BytesOf(const StoreMutation& mutation) {
  const size_t data = mutation.data.has_value() ? mutation.data->capacity() : 0;
  return static_cast<int64_t>(mutation.name.capacity() + data);
}

// Whether the same commit may succeed later.
bool CanBeTriedAgain(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status);
}

}  // namespace

WriteCombiner::WriteCombiner(const Options& options, MemoryBudget* memory, StateStore* store,
                             const Clock* clock, RegistryObserver* observer)
    : options_(options),
      store_(store),
      clock_(clock),
      observer_(observer),
      pool_(memory, options.idle_bytes_max),
      kept_memory_(memory, MemoryUse::kWrites),
      memory_(memory, MemoryUse::kWrites) {
  absl::MutexLock lock(&join_mutex_);
  committer_ = std::thread([this] { Run(); });
}

WriteCombiner::~WriteCombiner() { Shutdown(absl::ZeroDuration()); }

void WriteCombiner::Submit(const std::shared_ptr<StateEntry>& entry,
                           std::unique_ptr<StateChange> change) {
  StateEntry::Write& write = entry->write_;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = Admit(write);
    if (status.ok()) {
      const absl::Time now = clock_->Now();
      write.draft.BeginChange(&pool_);
      status = change->Apply(write.draft, now);
      const bool changed = write.draft.EndChange(status.ok(), now);
      const bool relaxed = change->durability() == Durability::kRelaxed && status.ok() &&
                           dirty_bytes_ <= options_.dirty_bytes_max / 2;
      // An answer tells of what Apply saw, so that must be on disk first, even for an error.
      const bool must_wait = !relaxed && (changed || write.queued || write.committing);
      const bool was_due = IsDue();
      if (changed || must_wait) Enqueue(entry);
      if (must_wait) ++pending_updates_;
      if (!was_due && IsDue()) wake_.Signal();
      if (must_wait) {
        write.waiters.push_back({std::move(change), std::move(status)});
        return;
      }
    }
  }
  change->OnDone(status, entry->published());
}

void WriteCombiner::Shutdown(absl::Duration patience) {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    patience_ = patience;
    wake_.SignalAll();
  }
  absl::MutexLock lock(&join_mutex_);
  if (committer_.joinable()) committer_.join();
}

void WriteCombiner::Run() {
  while (true) {
    Batch batch;
    {
      absl::MutexLock lock(&mutex_);
      if (!AwaitDue()) return;
      batch = Seal();
    }
    const absl::Time begin = absl::Now();
    const absl::Status committed = Commit(Encode(batch));
    KeepFewRecords();
    if (committed.ok()) Publish(batch);
    const int64_t updates = Release(batch, absl::Now() - begin);
    if (options_.run_answers == nullptr || updates == 0) {
      Answer(std::move(batch), committed);
    } else {
      options_.run_answers(
          [batch = std::move(batch), committed]() mutable { Answer(std::move(batch), committed); });
    }
  }
}

bool WriteCombiner::IsDue() const {
  return !queue_.empty() &&
         (pending_updates_ >= gathers_ || stopping_ || dirty_bytes_ > options_.dirty_bytes_max / 4);
}

bool WriteCombiner::AwaitDue() {
  // Who was answered is likely to come again at once, so a commit waits for a quarter of all: one
  // that is made of fewer costs as much, and one that waits for more leaves the disk idle.
  gathers_ = std::max<int64_t>(1, (last_commit_updates_ + pending_updates_) / 4);
  const absl::Time gathers_until = absl::Now() + std::min(last_commit_time_ / 2, kGatherTimeMax);
  while (!IsDue()) {
    if (queue_.empty() && stopping_) return false;
    // No longer than it should be, however the clock is set meanwhile.
    absl::Duration rest = absl::InfiniteDuration();
    if (gathers_ > 1) {
      rest = std::min(gathers_until - absl::Now(), kGatherTimeMax);
    } else if (!queue_.empty()) {
      rest = std::min(queued_since_ + options_.relaxed_commit_delay - absl::Now(),
                      options_.relaxed_commit_delay);
    }
    if (!wake_.WaitWithTimeout(&mutex_, rest)) continue;
    if (gathers_ == 1) break;
    gathers_ = 1;
  }
  return true;
}

absl::Status WriteCombiner::Admit(const StateEntry::Write& write) const {
  if (stopping_) return MakeError(Reason::kShuttingDown, "the server is shutting down");
  if (!blocked_.ok()) return blocked_;
  const int64_t updates_max = write.waiters.empty()
                                  ? options_.pending_updates_max
                                  : options_.pending_updates_max - options_.pending_updates_max / 4;
  if (pending_updates_ >= updates_max || dirty_bytes_ > options_.dirty_bytes_max) {
    return MakeError(Reason::kWriteQueueFull,
                     absl::StrCat(pending_updates_, " updates and ", dirty_bytes_,
                                  " bytes wait for the disk, at most ", updates_max, " and ",
                                  options_.dirty_bytes_max, " may (", write.waiters.size(),
                                  " of the updates are of this state)"));
  }
  return absl::OkStatus();
}

void WriteCombiner::AddDirtyBytes(int64_t bytes) {
  dirty_bytes_ += bytes;
  memory_.Resize(kCopiesOfADraft * dirty_bytes_);
}

void WriteCombiner::Enqueue(const std::shared_ptr<StateEntry>& entry) {
  StateEntry::Write& write = entry->write_;
  const NormState* state = write.draft.Get();
  // With weight and bias, which the record holds too, though the draft may share them.
  const int64_t bytes = state == nullptr ? 0 : state->MemoryBytes();
  AddDirtyBytes(bytes - std::exchange(write.queued_bytes, bytes));
  if (write.queued) return;
  write.queued = true;
  if (queue_.empty()) {
    // The wall's time, in which the delay is waited for.
    queued_since_ = absl::Now();
    wake_.Signal();
  }
  queue_.push_back(entry);
}

WriteCombiner::Batch WriteCombiner::Seal() {
  Batch batch;
  int64_t bytes = 0;
  while (!queue_.empty() && (batch.empty() || bytes < kCommitBytesMax)) {
    Sealed& sealed = batch.emplace_back();
    if (queue_.size() > kEntriesAhead) Prefetch(queue_[kEntriesAhead].get(), sizeof(StateEntry));
    sealed.entry = std::move(queue_.front());
    queue_.pop_front();
    StateEntry::Write& write = sealed.entry->write_;
    sealed.expected_revision = write.sealed_revision;
    sealed.changed = write.draft.changed();
    sealed.state = write.draft.Seal();
    sealed.waiters = std::exchange(write.waiters, {});
    sealed.bytes = std::exchange(write.queued_bytes, 0);
    write.sealed_revision = write.draft.revision();
    write.queued = false;
    write.committing = true;
    bytes += sealed.bytes;
  }
  return batch;
}

absl::Span<const StoreMutation> WriteCombiner::Encode(const Batch& batch) {
  std::vector<const Sealed*> by_name;
  by_name.reserve(batch.size());
  for (const Sealed& sealed : batch) {
    // A state that was made and deleted since the last commit leaves no trace.
    if (!sealed.changed || (sealed.state == nullptr && sealed.expected_revision == 0)) continue;
    by_name.push_back(&sealed);
  }
  std::sort(by_name.begin(), by_name.end(),
            [](const Sealed* a, const Sealed* b) { return a->entry->name() < b->entry->name(); });
  while (mutations_.size() < by_name.size()) {
    record_bytes_ += BytesOf(mutations_.emplace_back());
  }
  for (size_t i = 0; i < by_name.size(); ++i) {
    if (i + kStatesAhead < by_name.size()) {
      Prefetch(by_name[i + kStatesAhead]->state.get(), sizeof(NormState));
    }
    if (i + kArraysAhead < by_name.size() && by_name[i + kArraysAhead]->state != nullptr) {
      by_name[i + kArraysAhead]->state->PrefetchArrays();
    }
    const Sealed& sealed = *by_name[i];
    StoreMutation& mutation = mutations_[i];
    record_bytes_ -= BytesOf(mutation);
    mutation.name = sealed.entry->name();
    mutation.expected_revision = sealed.expected_revision;
    if (sealed.state == nullptr) {
      mutation.data.reset();
    } else {
      mutation.revision = sealed.state->revision;
      if (!mutation.data.has_value()) mutation.data.emplace();
      encoder_.Encode(*sealed.state, *mutation.data);
    }
    record_bytes_ += BytesOf(mutation);
  }
  return absl::MakeConstSpan(mutations_).first(by_name.size());
}

void WriteCombiner::KeepFewRecords() {
  const auto bytes = [this] {
    return record_bytes_ + static_cast<int64_t>(mutations_.capacity() * sizeof(StoreMutation));
  };
  if (bytes() > options_.idle_bytes_max) {
    std::vector<StoreMutation>().swap(mutations_);
    record_bytes_ = 0;
  }
  kept_memory_.Resize(bytes());
}

absl::Status WriteCombiner::Commit(absl::Span<const StoreMutation> mutations) {
  if (mutations.empty()) return absl::OkStatus();

  {
    absl::MutexLock lock(&mutex_);
    if (!blocked_.ok()) return blocked_;
  }
  bool was_blocked = false;
  while (true) {
    const absl::Status status = store_->Commit(mutations);
    if (status.ok()) break;
    if (!CanBeTriedAgain(status)) {
      absl::Status fatal = MakeError(Reason::kStoreUnavailable,
                                     absl::StrCat("the store failed: ", status.message()));
      {
        absl::MutexLock lock(&mutex_);
        blocked_ = fatal;
      }
      observer_->OnFatal(status);
      return fatal;
    }
    if (!was_blocked) observer_->OnStoreBlocked(status);
    was_blocked = true;
    if (!WaitBeforeRetry(status)) {
      return MakeError(Reason::kShuttingDown,
                       absl::StrCat("the server is shutting down and its store takes no writes: ",
                                    status.message()));
    }
  }
  if (was_blocked) {
    {
      absl::MutexLock lock(&mutex_);
      blocked_ = absl::OkStatus();
    }
    observer_->OnStoreUnblocked();
  }
  return absl::OkStatus();
}

bool WriteCombiner::WaitBeforeRetry(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (stopping_ && patience_ <= absl::ZeroDuration()) {
    blocked_ = MakeError(Reason::kShuttingDown, "the server is shutting down");
    return false;
  }
  blocked_ = status;
  const bool was_stopping = stopping_;
  wake_.WaitWithTimeout(&mutex_, options_.retry_delay);
  if (was_stopping) patience_ -= options_.retry_delay;
  return true;
}

void WriteCombiner::Publish(const Batch& batch) {
  std::vector<std::shared_ptr<const NormState>> before(batch.size());
  for (size_t i = 0; i < batch.size(); ++i) {
    if (i + kEntriesAhead < batch.size()) {
      Prefetch(batch[i + kEntriesAhead].entry.get(), sizeof(StateEntry));
    }
    if (batch[i].changed) before[i] = batch[i].entry->Publish(batch[i].state);
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    if (i + kStatesAhead < batch.size()) {
      Prefetch(before[i + kStatesAhead].get(), sizeof(NormState));
    }
    if (!batch[i].changed) continue;
    observer_->OnPublished(batch[i].entry->name(), before[i], batch[i].state);
    before[i].reset();
  }
}

int64_t WriteCombiner::Release(const Batch& batch, absl::Duration time) {
  absl::MutexLock lock(&mutex_);
  int64_t bytes = 0;
  int64_t updates = 0;
  for (const Sealed& sealed : batch) {
    sealed.entry->write_.committing = false;
    bytes += sealed.bytes;
    updates += static_cast<int64_t>(sealed.waiters.size());
  }
  pending_updates_ -= updates;
  AddDirtyBytes(-bytes);
  last_commit_updates_ = updates;
  last_commit_time_ = time;
  return updates;
}

void WriteCombiner::Answer(Batch batch, const absl::Status& committed) {
  for (Sealed& sealed : batch) {
    const std::shared_ptr<const NormState> published =
        committed.ok() ? sealed.state : sealed.entry->published();
    for (StateEntry::Write::Waiter& waiter : sealed.waiters) {
      waiter.change->OnDone(committed.ok() ? waiter.status : committed, published);
    }
  }
}

}  // namespace normd
