// More states than fit into the cache: what a million of them do, at a size that a test can have.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/memory_budget.h"
#include "core/registry/state_registry.h"
#include "tests/core/registry/registry_fixture.h"
#include "tests/core/registry/registry_testing.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

using ::normd::testing::Create;
using ::normd::testing::Fold;
using ::normd::testing::FunctionChange;
using ::normd::testing::Outcome;

constexpr int kStates = 20'000;
constexpr int64_t kNumFeatures = 16;
constexpr int64_t kCacheBytes = 384 * kKiB;  // a hundredth of the states
constexpr int64_t kMemoryBytes = 32 * kMiB;  // less than the states
constexpr size_t kInFlight = 32;
// What one state takes in the cache, at most.
constexpr int64_t kEntryBytesMax = 3 * kKiB;

std::string NameOf(int state) { return absl::StrCat("layer", state % 7, "/bn", state); }

class ManyStatesTest : public ::normd::testing::RegistryTest {
 protected:
  // Makes a change of each state of `order`, kInFlight of them at a time; all must be applied. The
  // cache keeps to its bytes all the while: beyond them is at most what is in flight.
  template <typename MakeChange>
  void ChangeEach(const std::vector<int>& order, MakeChange make_change) {
    std::deque<std::shared_ptr<Outcome>> in_flight;
    for (const int state : order) {
      auto outcome = std::make_shared<Outcome>();
      registry_->Acquire(NameOf(state), [&, state, outcome](absl::StatusOr<StateHandle> handle) {
        registry_->Submit(*handle, std::make_unique<FunctionChange>(make_change(state), outcome));
      });
      in_flight.push_back(std::move(outcome));
      if (in_flight.size() == kInFlight) {
        ASSERT_TRUE(in_flight.front()->Await().ok()) << in_flight.front()->status;
        in_flight.pop_front();
      }
      ASSERT_LE(registry_->cache_bytes(),
                cache_bytes_max_ + static_cast<int64_t>(kInFlight) * kEntryBytesMax);
    }
    for (const auto& outcome : in_flight) ASSERT_TRUE(outcome->Await().ok()) << outcome->status;
  }

  void CreateAll() {
    ChangeEach(all_, [](int state) { return Create(NameOf(state), kNumFeatures); });
  }

  int64_t cache_bytes_max_ = kCacheBytes;

  SeededRandom random_;
  // Every state, in the order of numbers and in a random one.
  std::vector<int> all_ = [] {
    std::vector<int> all(kStates);
    for (int i = 0; i < kStates; ++i) all[static_cast<size_t>(i)] = i;
    return all;
  }();
  std::vector<int> shuffled_ = [this] {
    std::vector<int> shuffled = all_;
    std::shuffle(shuffled.begin(), shuffled.end(), random_);
    return shuffled;
  }();
};

TEST_F(ManyStatesTest, StatisticsOutliveEvictionAndTheCacheKeepsToItsBytes) {
  Start(kCacheBytes);
  CreateAll();
  ChangeEach(shuffled_, [](int state) { return Fold(state); });
  ChangeEach(all_, [](int state) { return Fold(-3.0 * state); });
  const int64_t loads = store_.loads();
  for (const int state : shuffled_) {
    const absl::StatusOr<StateHandle> handle = Acquire(NameOf(state));
    ASSERT_TRUE(handle.ok()) << handle.status();
    const std::shared_ptr<const NormState> value = handle->Get();
    ASSERT_NE(value, nullptr) << NameOf(state);
    EXPECT_EQ(value->num_batches_tracked(), 2);
    for (const double mean : value->running_stats->mean) {
      ASSERT_DOUBLE_EQ(mean, 0.9 * (0.1 * state) + 0.1 * (-3.0 * state)) << NameOf(state);
    }
    ASSERT_LE(registry_->cache_bytes(), kCacheBytes + kEntryBytesMax);
  }
  EXPECT_GT(store_.loads() - loads, kStates / 2) << "else nothing was evicted";
  EXPECT_GT(registry_->cache_bytes(), kCacheBytes / 2) << "else the cache is not used";
}

TEST_F(ManyStatesTest, StartingReadsNothingAndAColdStateIsReadOnce) {
  Start(kCacheBytes);
  CreateAll();
  Start(kCacheBytes);
  const int64_t before = store_.loads();
  EXPECT_EQ(store_.lists(), 0);
  // Few enough to stay in the cache once they are read.
  const std::vector<int> few(shuffled_.begin(), shuffled_.begin() + 50);
  ChangeEach(few, [](int) { return Fold(1); });
  EXPECT_EQ(store_.loads() - before, 50) << "once for a change";
  for (const int state : few) EXPECT_NE(Acquire(NameOf(state))->Get(), nullptr);
  ChangeEach(few, [](int) { return Fold(1); });
  EXPECT_EQ(store_.loads() - before, 50) << "and not again";
  EXPECT_EQ(store_.lists(), 0);
}

TEST_F(ManyStatesTest, EveryoneWhoComesForAColdStateSharesOneRead) {
  Start(kCacheBytes);
  CreateAll();
  Start(kCacheBytes);
  const int64_t before = store_.loads();
  const std::vector<int> again(64, shuffled_.front());
  ChangeEach(again, [](int) { return Fold(1); });
  EXPECT_EQ(store_.loads() - before, 1);
  EXPECT_EQ(Acquire(NameOf(again.front()))->Get()->num_batches_tracked(), 64);
}

TEST_F(ManyStatesTest, TheCacheGivesWayToOtherUsesOfMemory) {
  MemoryBudget memory(kMemoryBytes);
  cache_bytes_max_ = kMemoryBytes;
  Start(cache_bytes_max_, &memory);
  CreateAll();
  const int64_t full = registry_->cache_bytes();
  EXPECT_GT(full, 24 * kMiB) << "it has what the others leave";
  EXPECT_LE(full, memory.CacheBytesMax() + static_cast<int64_t>(kInFlight) * kEntryBytesMax);
  EXPECT_EQ(memory.used(MemoryUse::kCache), full);

  MemoryReservation streams(&memory, MemoryUse::kStreams);
  streams.Resize(memory.share(MemoryUse::kStreams));
  EXPECT_TRUE(memory.IsExceeded());
  ASSERT_TRUE(Acquire(NameOf(0)).ok());
  EXPECT_FALSE(memory.IsExceeded());
  EXPECT_LE(registry_->cache_bytes(), full - 11 * kMiB);
  EXPECT_EQ(memory.used(MemoryUse::kCache), registry_->cache_bytes());

  streams.Resize(0);
  for (const int state : all_) ASSERT_TRUE(Acquire(NameOf(state)).ok());
  EXPECT_GT(registry_->cache_bytes(), 24 * kMiB) << "and comes back";
  registry_.reset();
  EXPECT_EQ(memory.used(MemoryUse::kCache), 0);
}

TEST_F(ManyStatesTest, ChangedStatesKeepToTheirShareOfMemory) {
  MemoryBudget memory(kMemoryBytes);
  cache_bytes_max_ = kMemoryBytes;
  Start(cache_bytes_max_, &memory);
  CreateAll();
  store_.Close();
  std::vector<std::shared_ptr<Outcome>> outcomes;
  int refused = 0;
  for (const int state : all_) {
    auto outcome = std::make_shared<Outcome>();
    registry_->Submit(*Acquire(NameOf(state)), std::make_unique<FunctionChange>(Fold(1), outcome));
    if (outcome->done.HasBeenNotified()) {
      ASSERT_EQ(GetReason(outcome->status), Reason::kWriteQueueFull);
      ++refused;
    }
    outcomes.push_back(std::move(outcome));
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(memory.used(MemoryUse::kWrites), memory.share(MemoryUse::kWrites) / 2);
  // Each shard may go beyond by the draft that fills it.
  EXPECT_LE(
      memory.used(MemoryUse::kWrites),
      memory.share(MemoryUse::kWrites) + kDefaultWriteShards * kCopiesOfADraft * kEntryBytesMax);
  store_.Open();
  for (const auto& outcome : outcomes) outcome->Await();
  EXPECT_EQ(memory.used(MemoryUse::kWrites), 0);
}

}  // namespace
}  // namespace normd
