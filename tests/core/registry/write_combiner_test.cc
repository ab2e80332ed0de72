#include "core/registry/write_combiner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/error.h"
#include "core/state/state_codec.h"
#include "tests/core/registry/registry_testing.h"
#include "tests/core/registry/write_combiner_fixture.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST_F(WriteCombinerTest, CommitsOnceForConcurrentUpdates) {
  Start();
  const auto entry = NewState("a");
  store_.Close();
  std::vector<std::shared_ptr<Outcome>> outcomes = {Submit(entry, Fold(1))};
  store_.AwaitCommitsBegun(2);
  for (int i = 0; i < 64; ++i) outcomes.push_back(Submit(entry, Fold(1)));
  store_.Open();
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->Await().ok());
  EXPECT_EQ(store_.commits_begun(), 3);
  EXPECT_EQ(store_.records_committed(), 3);
  EXPECT_EQ(entry->published()->revision, 66);
  EXPECT_EQ(entry->published()->num_batches_tracked(), 65);
}

TEST_F(WriteCombinerTest, CommitsManyStatesWithOneSync) {
  Start();
  const auto first = NewEntry("first");
  store_.Close();
  const auto first_outcome = Submit(first, Create("first"));
  store_.AwaitCommitsBegun(1);
  std::vector<std::shared_ptr<Outcome>> outcomes;
  for (int i = 0; i < 100; ++i) {
    const std::string name = absl::StrCat("s", i);
    outcomes.push_back(Submit(NewEntry(name), Create(name)));
  }
  store_.Open();
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->Await().ok());
  EXPECT_EQ(store_.commits_begun(), 2);
  EXPECT_EQ(store_.records_committed(), 101);
  const std::vector<std::string> names = store_.last_names();
  EXPECT_EQ(names.size(), 100u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

TEST_F(WriteCombinerTest, KeepsAndCountsTheMemoryOfFewRecords) {
  constexpr int64_t kIdleBytesMax = 100'000;
  Start({.idle_bytes_max = kIdleBytesMax});
  const auto kept = [this] { return memory_.used(MemoryUse::kWrites); };
  const auto small = NewState("small", 100);
  EXPECT_GE(kept(), 100 * 2 * static_cast<int64_t>(sizeof(float) + sizeof(double)));
  EXPECT_LE(kept(), kIdleBytesMax);
  NewState("large", 100'000);
  EXPECT_EQ(kept(), 0);
  // Its record is kept, and the copy of before.
  EXPECT_TRUE(Submit(small, Fold(1))->Await().ok());
  EXPECT_TRUE(Submit(small, Fold(1))->Await().ok());
  EXPECT_GE(kept(), small->published()->MemoryBytes());
  EXPECT_LE(kept(), 2 * kIdleBytesMax);
  combiner_.reset();
  EXPECT_EQ(kept(), 0);
}

TEST_F(WriteCombinerTest, FoldsInTheOrderOfArrival) {
  Start();
  const auto entry = NewState("a");
  double expected = 0;
  std::vector<std::shared_ptr<Outcome>> outcomes;
  for (int i = 1; i <= 50; ++i) {
    expected = 0.9 * expected + 0.1 * i;
    outcomes.push_back(Submit(entry, Fold(i)));
  }
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->Await().ok());
  EXPECT_DOUBLE_EQ(entry->published()->running_stats->mean[0], expected);
}

TEST_F(WriteCombinerTest, ShowsReadersOnlyWhatIsOnDisk) {
  Start();
  const auto entry = NewState("a");
  store_.Close();
  const auto durable = Submit(entry, Fold(1));
  store_.AwaitCommitsBegun(2);
  EXPECT_EQ(entry->published()->revision, 1);
  EXPECT_FALSE(durable->done.HasBeenNotified());
  store_.Open();
  EXPECT_TRUE(durable->Await().ok());
  EXPECT_EQ(entry->published()->revision, 2);
  EXPECT_EQ(durable->published->revision, 2);
  const StoredRecord record = store_.Load("a").value();
  EXPECT_EQ(DecodeState("a", record.revision, record.data)->num_batches_tracked(), 1);
}

TEST_F(WriteCombinerTest, TheNextCommitDoesNotWaitForTheAnswersOfTheLast) {
  absl::Mutex mutex;
  std::vector<absl::AnyInvocable<void()>> answers;
  Start({.run_answers = [&](absl::AnyInvocable<void()> run) {
    absl::MutexLock lock(&mutex);
    answers.push_back(std::move(run));
  }});
  const auto entry = NewEntry("a");
  const auto created = Submit(entry, Create("a"));
  store_.AwaitCommitsBegun(1);
  const auto folded = Submit(entry, Fold(1));
  store_.AwaitCommitsBegun(2);
  combiner_->Shutdown(absl::InfiniteDuration());
  EXPECT_EQ(entry->published()->revision, 2);
  EXPECT_FALSE(created->done.HasBeenNotified());
  ASSERT_EQ(answers.size(), 2U);
  for (auto& run : answers) run();
  EXPECT_TRUE(created->Await().ok());
  EXPECT_TRUE(folded->Await().ok());
}

TEST_F(WriteCombinerTest, AnswersWhatChangesNothingAfterWhatItSaw) {
  Start();
  const auto entry = NewState("a");
  store_.Close();
  const auto fold = Submit(entry, Fold(1));
  store_.AwaitCommitsBegun(2);
  const auto look = Submit(entry, Look());
  EXPECT_FALSE(look->done.HasBeenNotified());
  store_.Open();
  EXPECT_TRUE(look->Await().ok());
  EXPECT_EQ(look->published->revision, 2);
  EXPECT_EQ(store_.commits_begun(), 2) << "nothing changed, so nothing to write";
  EXPECT_TRUE(Submit(entry, Look())->done.HasBeenNotified()) << "nothing is under way";
}

TEST_F(WriteCombinerTest, RefusedChangeChangesNothing) {
  Start();
  const auto entry = NewState("a");
  const auto refused = Submit(entry, [](StateDraft& draft, absl::Time) {
    draft.Mutable();
    return absl::InvalidArgumentError("no");
  });
  EXPECT_EQ(refused->Await(), absl::InvalidArgumentError("no"));
  EXPECT_EQ(entry->published()->revision, 1);
  EXPECT_EQ(store_.commits_begun(), 1);
  EXPECT_TRUE(Submit(entry, Fold(1))->Await().ok());
  EXPECT_EQ(entry->published()->revision, 2);
}

TEST_F(WriteCombinerTest, StateMadeAndDeletedBetweenCommitsLeavesNoTrace) {
  Start();
  const auto other = NewEntry("other");
  store_.Close();
  const auto other_outcome = Submit(other, Create("other"));
  store_.AwaitCommitsBegun(1);
  const auto entry = NewEntry("a");
  const auto created = Submit(entry, Create("a"));
  const auto deleted = Submit(entry, Delete());
  store_.Open();
  EXPECT_TRUE(created->Await().ok());
  EXPECT_TRUE(deleted->Await().ok());
  EXPECT_EQ(entry->published(), nullptr);
  EXPECT_FALSE(store_.Load("a").ok());
}

TEST_F(WriteCombinerTest, StateDeletedAndMadeAgainBetweenCommitsHasAHigherRevision) {
  Start();
  const auto entry = NewState("a", 1);
  EXPECT_TRUE(Submit(entry, Fold(1))->Await().ok());
  store_.Close();
  const auto fold = Submit(entry, Fold(1));
  store_.AwaitCommitsBegun(3);
  const auto deleted = Submit(entry, Delete());
  const auto created = Submit(entry, Create("a", 5));
  store_.Open();
  EXPECT_TRUE(deleted->Await().ok());
  EXPECT_TRUE(created->Await().ok());
  EXPECT_EQ(entry->published()->config.num_features, 5);
  EXPECT_EQ(entry->published()->revision, 4);
}

TEST_F(WriteCombinerTest, StateMadeAgainWhileItsDeleteIsUnderWayStartsAnew) {
  Start();
  const auto entry = NewState("a", 1);
  EXPECT_TRUE(Submit(entry, Fold(1))->Await().ok());
  store_.Close();
  const auto deleted = Submit(entry, Delete());
  store_.AwaitCommitsBegun(3);
  const auto created = Submit(entry, Create("a", 5));
  store_.Open();
  EXPECT_TRUE(deleted->Await().ok());
  EXPECT_TRUE(created->Await().ok());
  EXPECT_EQ(entry->published()->revision, 1);
  EXPECT_EQ(store_.Load("a")->revision, 1);
}

TEST_F(WriteCombinerTest, RefusesUpdatesBeyondTheQueue) {
  Start({.pending_updates_max = 3});
  const auto entry = NewState("a");
  store_.Close();
  std::vector<std::shared_ptr<Outcome>> outcomes;
  for (int i = 0; i < 3; ++i) outcomes.push_back(Submit(entry, Fold(1)));
  const auto refused = Submit(entry, Fold(1));
  ASSERT_TRUE(refused->done.HasBeenNotified());
  EXPECT_EQ(GetReason(refused->status), Reason::kWriteQueueFull);
  store_.Open();
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->Await().ok());
  EXPECT_TRUE(Submit(entry, Fold(1))->Await().ok());
  EXPECT_EQ(entry->published()->num_batches_tracked(), 4);
}

TEST_F(WriteCombinerTest, CountsWhatAStateGrowsByBetweenTwoCommits) {
  constexpr int64_t kDirtyBytesMax = 100'000;
  Start({.dirty_bytes_max = kDirtyBytesMax, .idle_bytes_max = 0});
  const auto growing = NewState("growing");
  const auto other = NewState("other");
  store_.Close();
  std::vector<std::shared_ptr<Outcome>> outcomes = {Submit(other, Fold(1))};
  store_.AwaitCommitsBegun(3);
  outcomes.push_back(Submit(growing, Fold(1)));
  EXPECT_LT(memory_.used(MemoryUse::kWrites), kDirtyBytesMax / 2);
  // More than so many bytes: each has a name of 128.
  constexpr int kProducers = 1000;
  for (int i = 0; i < kProducers; ++i) {
    outcomes.push_back(Submit(growing, [i](StateDraft& draft, absl::Time now) {
      return draft.Mutable().producers.Record(absl::StrFormat("%0128d", i), 1, now,
                                              {.producers_max = kProducers});
    }));
  }
  EXPECT_GT(memory_.used(MemoryUse::kWrites), kCopiesOfADraft * kDirtyBytesMax);
  const auto refused = Submit(other, Fold(1));
  EXPECT_TRUE(refused->done.HasBeenNotified());
  store_.Open();
  EXPECT_EQ(GetReason(refused->Await()), Reason::kWriteQueueFull);
  for (const auto& outcome : outcomes) outcome->done.WaitForNotification();
  combiner_->Shutdown(absl::InfiniteDuration());
  EXPECT_EQ(memory_.used(MemoryUse::kWrites), 0);
}

TEST_F(WriteCombinerTest, ABusyStateLeavesTheLastQuarterOfTheQueueToOthers) {
  Start({.pending_updates_max = 40});
  const auto busy = NewState("busy");
  std::vector<std::shared_ptr<StateEntry>> others;
  for (int i = 0; i < 11; ++i) others.push_back(NewState(absl::StrCat("other", i)));
  store_.Close();
  std::vector<std::shared_ptr<Outcome>> outcomes = {Submit(busy, Fold(1))};
  store_.AwaitCommitsBegun(13);
  for (int i = 1; i < 30; ++i) outcomes.push_back(Submit(busy, Fold(1)));
  EXPECT_EQ(GetReason(Submit(busy, Fold(1))->Await()), Reason::kWriteQueueFull);
  for (int i = 0; i < 10; ++i) outcomes.push_back(Submit(others[i], Fold(1)));
  EXPECT_EQ(GetReason(Submit(others[0], Fold(1))->Await()), Reason::kWriteQueueFull);
  EXPECT_EQ(GetReason(Submit(others[10], Fold(1))->Await()), Reason::kWriteQueueFull);
  store_.Open();
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->Await().ok()) << outcome->status;
  EXPECT_TRUE(Submit(others[10], Fold(1))->Await().ok());
  EXPECT_EQ(busy->published()->num_batches_tracked(), 30);
}

// Keeps a number of updates of one state in the queue at all times.
class BusyState {
 public:
  BusyState(WriteCombiner* combiner, std::shared_ptr<StateEntry> entry, int updates)
      : combiner_(combiner), entry_(std::move(entry)), under_way_(updates) {
    for (int i = 0; i < updates; ++i) Submit();
  }
  // Waits for the last update.
  ~BusyState() {
    const auto none = [this] { return under_way_ == 0; };
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    mutex_.Await(absl::Condition(&none));
  }

  BusyState(const BusyState&) = delete;
  BusyState& operator=(const BusyState&) = delete;

 private:
  class Update final : public StateChange {
   public:
    explicit Update(BusyState* state) : state_(state) {}
    absl::Status Apply(StateDraft& draft, absl::Time now) override { return Fold(1)(draft, now); }
    void OnDone(const absl::Status& status, std::shared_ptr<const NormState>) override {
      EXPECT_TRUE(status.ok()) << status;
      {
        absl::MutexLock lock(&state_->mutex_);
        if (state_->stopping_) {
          --state_->under_way_;
          return;
        }
      }
      state_->Submit();
    }

   private:
    BusyState* const state_;
  };

  void Submit() { combiner_->Submit(entry_, std::make_unique<Update>(this)); }

  WriteCombiner* const combiner_;
  const std::shared_ptr<StateEntry> entry_;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int under_way_ ABSL_GUARDED_BY(mutex_);
};

// Counts the commits that begin between its arrival and its answer.
class CommitCounter final : public StateChange {
 public:
  CommitCounter(const GatedStore* store, int64_t* commits, absl::Notification* done)
      : store_(store), commits_(commits), done_(done) {}

  absl::Status Apply(StateDraft& draft, absl::Time now) override {
    *commits_ = -store_->commits_begun();
    return Fold(1)(draft, now);
  }
  // On the commit thread: the next commit begins after its return.
  void OnDone(const absl::Status& status, std::shared_ptr<const NormState>) override {
    EXPECT_TRUE(status.ok()) << status;
    *commits_ += store_->commits_begun();
    done_->Notify();
  }

 private:
  const GatedStore* const store_;
  int64_t* const commits_;
  absl::Notification* const done_;
};

TEST_F(WriteCombinerTest, AnUpdateWaitsForTwoCommitsAtMostHoweverBusyAnotherStateIs) {
  constexpr int kBusyUpdates = 500;
  constexpr int kRounds = 200;
  Start({.pending_updates_max = 4 * kBusyUpdates});
  const auto quiet = NewState("quiet");
  const auto busy_entry = NewState("busy");
  {
    const BusyState busy(combiner_.get(), busy_entry, kBusyUpdates);
    for (int round = 0; round < kRounds; ++round) {
      int64_t commits = 0;
      absl::Notification done;
      combiner_->Submit(quiet, std::make_unique<CommitCounter>(&store_, &commits, &done));
      done.WaitForNotification();
      // The one that was under way and its own.
      EXPECT_LE(commits, 2) << "round " << round;
    }
  }
  EXPECT_EQ(quiet->published()->num_batches_tracked(), kRounds);
  EXPECT_GT(busy_entry->published()->num_batches_tracked(), kBusyUpdates);
}

TEST_F(WriteCombinerTest, CountsTheMemoryOfDraftsUntilTheyAreOnDisk) {
  Start({.idle_bytes_max = 0});
  const auto first = NewState("first", 100);
  const auto second = NewState("second", 200);
  EXPECT_EQ(memory_.used(MemoryUse::kWrites), 0);
  store_.Close();
  const int64_t first_bytes = kCopiesOfADraft * first->published()->MemoryBytes();
  const int64_t second_bytes = kCopiesOfADraft * second->published()->MemoryBytes();
  const auto under_way = Submit(first, Fold(1), Durability::kRelaxed);
  store_.AwaitCommitsBegun(3);
  EXPECT_EQ(memory_.used(MemoryUse::kWrites), first_bytes) << "also while it is committed";
  std::vector<std::shared_ptr<Outcome>> outcomes;
  for (int i = 0; i < 3; ++i) outcomes.push_back(Submit(second, Fold(1)));
  EXPECT_EQ(memory_.used(MemoryUse::kWrites), first_bytes + second_bytes) << "once a state";
  store_.Open();
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->Await().ok());
  EXPECT_EQ(memory_.used(MemoryUse::kWrites), 0);
}

TEST_F(WriteCombinerTest, TriesAgainWhileTheStoreIsFull) {
  Start({.retry_delay = absl::Milliseconds(1)});
  const auto entry = NewState("a");
  store_.FailWith(MakeError(Reason::kStoreFull, "full"));
  const auto waiting = Submit(entry, Fold(1));
  observer_.AwaitBlocked();
  store_.AwaitCommitsBegun(5);
  EXPECT_FALSE(waiting->done.HasBeenNotified());
  const auto refused = Submit(entry, Fold(1));
  EXPECT_EQ(GetReason(refused->Await()), Reason::kStoreFull);
  EXPECT_EQ(entry->published()->revision, 1) << "reads are served";
  store_.FailWith(absl::OkStatus());
  EXPECT_TRUE(waiting->Await().ok());
  EXPECT_EQ(entry->published()->num_batches_tracked(), 1) << "the refused one was not applied";
  EXPECT_TRUE(Submit(entry, Fold(1))->Await().ok());
  EXPECT_EQ(observer_.blocked(), 1);
  EXPECT_EQ(observer_.unblocked(), 1);
  EXPECT_TRUE(observer_.fatal().empty());
}

TEST_F(WriteCombinerTest, AcknowledgesNothingAfterAFailedSync) {
  Start();
  const auto entry = NewState("a");
  store_.FailWith(absl::InternalError("sync failed"));
  EXPECT_EQ(GetReason(Submit(entry, Fold(1))->Await()), Reason::kStoreUnavailable);
  ASSERT_EQ(observer_.fatal().size(), 1U);
  EXPECT_EQ(observer_.fatal()[0], absl::InternalError("sync failed"));
  store_.FailWith(absl::OkStatus());
  const int64_t commits = store_.commits_begun();
  EXPECT_EQ(GetReason(Submit(entry, Fold(1))->Await()), Reason::kStoreUnavailable);
  EXPECT_EQ(GetReason(Submit(entry, Fold(1), Durability::kRelaxed)->Await()),
            Reason::kStoreUnavailable);
  EXPECT_EQ(store_.commits_begun(), commits);
  EXPECT_EQ(entry->published()->revision, 1);
}

TEST_F(WriteCombinerTest, ShutdownCommitsWhatWasApplied) {
  Start();
  const auto entry = NewState("a");
  store_.Close();
  const auto durable = Submit(entry, Fold(1));
  const auto relaxed = Submit(entry, Fold(2), Durability::kRelaxed);
  std::thread opener([this] {
    store_.AwaitCommitsBegun(2);
    store_.Open();
  });
  combiner_->Shutdown(absl::InfiniteDuration());
  opener.join();
  EXPECT_TRUE(durable->Await().ok());
  EXPECT_EQ(store_.Load("a")->revision, 3);
  EXPECT_EQ(GetReason(Submit(entry, Fold(1))->Await()), Reason::kShuttingDown);
}

TEST_F(WriteCombinerTest, ShutdownGivesUpOnAFullStore) {
  Start({.retry_delay = absl::Milliseconds(1)});
  const auto entry = NewState("a");
  store_.FailWith(MakeError(Reason::kStoreFull, "full"));
  const auto waiting = Submit(entry, Fold(1));
  observer_.AwaitBlocked();
  combiner_->Shutdown(absl::Milliseconds(5));
  EXPECT_EQ(GetReason(waiting->Await()), Reason::kShuttingDown);
  EXPECT_EQ(store_.Load("a")->revision, 1);
}

TEST_F(WriteCombinerTest, TellsTheObserverOfEveryCommittedRevisionInOrder) {
  Start();
  const auto entry = NewState("a");
  EXPECT_TRUE(Submit(entry, Fold(1))->Await().ok());
  EXPECT_TRUE(Submit(entry, Delete())->Await().ok());
  EXPECT_THAT(observer_.published(), ElementsAre(Pair("a", 1), Pair("a", 2), Pair("a", 0)));
}

TEST_F(WriteCombinerTest, AppliesEveryUpdateOfManyThreadsOnce) {
  Start();
  constexpr int kThreads = 8;
  constexpr int kUpdates = 500;
  const auto shared = NewState("shared");
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const auto own = NewState(absl::StrCat("own", t));
      for (int i = 0; i < kUpdates; ++i) {
        const Durability durability = i % 3 == 0 ? Durability::kDurable : Durability::kRelaxed;
        EXPECT_TRUE(Submit(shared, Fold(1), durability)->Await().ok());
        EXPECT_TRUE(Submit(own, Fold(1), durability)->Await().ok());
      }
      EXPECT_TRUE(Submit(own, Look())->Await().ok());
      EXPECT_EQ(own->published()->num_batches_tracked(), kUpdates);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(Submit(shared, Look())->Await().ok());
  EXPECT_EQ(shared->published()->num_batches_tracked(), kThreads * kUpdates);
}

}  // namespace
}  // namespace normd::testing
