#ifndef NORMD_TESTS_CORE_REGISTRY_REGISTRY_TESTING_H_
#define NORMD_TESTS_CORE_REGISTRY_REGISTRY_TESTING_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "core/base/clock.h"
#include "core/norm/moments.h"
#include "core/registry/registry_observer.h"
#include "core/registry/state_change.h"
#include "core/store/memory_state_store.h"
#include "core/store/state_store.h"

namespace normd::testing {

// Stands still until it is told to move.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration duration) {
    absl::MutexLock lock(&mutex_);
    now_ += duration;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000);
};

// A memory store whose commits can be held up and made to fail, and whose calls are counted.
class GatedStore final : public StateStore {
 public:
  // Commits that begin from now on wait until Open.
  void Close() {
    absl::MutexLock lock(&mutex_);
    open_ = false;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }
  // Every commit fails with `status` until it is OK.
  void FailWith(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    failure_ = std::move(status);
  }
  void AwaitCommitsBegun(int64_t commits) {
    const auto begun = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return commits_begun_ >= commits;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&begun));
  }
  int64_t commits_begun() const {
    absl::MutexLock lock(&mutex_);
    return commits_begun_;
  }
  int64_t records_committed() const {
    absl::MutexLock lock(&mutex_);
    return records_committed_;
  }
  // The names of the last commit, in its order.
  std::vector<std::string> last_names() const {
    absl::MutexLock lock(&mutex_);
    return last_names_;
  }
  int64_t loads() const {
    absl::MutexLock lock(&mutex_);
    return loads_;
  }
  int64_t lists() const {
    absl::MutexLock lock(&mutex_);
    return lists_;
  }

  absl::StatusOr<StoredRecord> Load(absl::string_view name) const override {
    {
      absl::MutexLock lock(&mutex_);
      ++loads_;
    }
    return store_->Load(name);
  }
  absl::Status Commit(absl::Span<const StoreMutation> mutations) override {
    {
      absl::MutexLock lock(&mutex_);
      ++commits_begun_;
      mutex_.Await(absl::Condition(&open_));
      if (!failure_.ok()) return failure_;
      records_committed_ += static_cast<int64_t>(mutations.size());
      last_names_.clear();
      for (const StoreMutation& mutation : mutations) last_names_.push_back(mutation.name);
    }
    return store_->Commit(mutations);
  }
  absl::StatusOr<std::vector<StoredRecord>> List(absl::string_view prefix, absl::string_view after,
                                                 int64_t records_max,
                                                 int64_t bytes_max) const override {
    {
      absl::MutexLock lock(&mutex_);
      ++lists_;
    }
    return store_->List(prefix, after, records_max, bytes_max);
  }

 private:
  const std::unique_ptr<StateStore> store_ = NewMemoryStateStore();

  mutable absl::Mutex mutex_;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int64_t commits_begun_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t records_committed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> last_names_ ABSL_GUARDED_BY(mutex_);
  mutable int64_t loads_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable int64_t lists_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Writes down what it is told.
class RecordingObserver final : public RegistryObserver {
 public:
  void OnPublished(const std::string& name, const std::shared_ptr<const NormState>& /*before*/,
                   const std::shared_ptr<const NormState>& state) override {
    absl::MutexLock lock(&mutex_);
    published_.emplace_back(name, state == nullptr ? 0 : state->revision);
  }
  void OnStoreBlocked(const absl::Status& /*status*/) override {
    absl::MutexLock lock(&mutex_);
    ++blocked_;
  }
  void OnStoreUnblocked() override {
    absl::MutexLock lock(&mutex_);
    ++unblocked_;
  }
  void OnFatal(const absl::Status& status) override {
    absl::MutexLock lock(&mutex_);
    fatal_.push_back(status);
  }

  // Name and revision (0: deleted), in order.
  std::vector<std::pair<std::string, int64_t>> published() const {
    absl::MutexLock lock(&mutex_);
    return published_;
  }
  int blocked() const {
    absl::MutexLock lock(&mutex_);
    return blocked_;
  }
  void AwaitBlocked() {
    const auto blocked = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return blocked_ > 0; };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&blocked));
  }
  int unblocked() const {
    absl::MutexLock lock(&mutex_);
    return unblocked_;
  }
  std::vector<absl::Status> fatal() const {
    absl::MutexLock lock(&mutex_);
    return fatal_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::pair<std::string, int64_t>> published_ ABSL_GUARDED_BY(mutex_);
  int blocked_ ABSL_GUARDED_BY(mutex_) = 0;
  int unblocked_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<absl::Status> fatal_ ABSL_GUARDED_BY(mutex_);
};

// The answer to a change, to be waited for.
struct Outcome {
  absl::Notification done;
  absl::Status status;
  std::shared_ptr<const NormState> published;

  const absl::Status& Await() {
    done.WaitForNotification();
    return status;
  }
};

// A change made of a function.
class FunctionChange final : public StateChange {
 public:
  using Function = std::function<absl::Status(StateDraft& draft, absl::Time now)>;

  FunctionChange(Function function, std::shared_ptr<Outcome> outcome,
                 Durability durability = Durability::kDurable)
      : function_(std::move(function)), outcome_(std::move(outcome)), durability_(durability) {}

  Durability durability() const override { return durability_; }
  absl::Status Apply(StateDraft& draft, absl::Time now) override { return function_(draft, now); }
  void OnDone(const absl::Status& status, std::shared_ptr<const NormState> published) override {
    outcome_->status = status;
    outcome_->published = std::move(published);
    outcome_->done.Notify();
  }

 private:
  const Function function_;
  const std::shared_ptr<Outcome> outcome_;
  const Durability durability_;
};

inline FunctionChange::Function Create(const std::string& name, int64_t num_features = 1) {
  return [name, num_features](StateDraft& draft, absl::Time now) {
    if (draft.Get() != nullptr) return absl::AlreadyExistsError(name);
    draft.Create(NormState::Create(name, {.num_features = num_features}, {}, now).value());
    return absl::OkStatus();
  };
}

// Folds a batch of 2 values per channel with mean `mean` and variance 0.
inline FunctionChange::Function Fold(double mean) {
  return [mean](StateDraft& draft, absl::Time now) {
    if (draft.Get() == nullptr) return absl::NotFoundError("no state");
    const auto channels = static_cast<size_t>(draft.Get()->config.num_features);
    return draft.Mutable().Fold({.count = 2,
                                 .mean = std::vector<double>(channels, mean),
                                 .m2 = std::vector<double>(channels, 0.0)},
                                {}, now, {});
  };
}

inline FunctionChange::Function Delete() {
  return [](StateDraft& draft, absl::Time) {
    if (draft.Get() == nullptr) return absl::NotFoundError("no state");
    draft.Delete();
    return absl::OkStatus();
  };
}

inline FunctionChange::Function Look() {
  return [](StateDraft&, absl::Time) { return absl::OkStatus(); };
}

}  // namespace normd::testing

#endif  // NORMD_TESTS_CORE_REGISTRY_REGISTRY_TESTING_H_
