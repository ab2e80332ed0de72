#include "core/base/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/limits.h"

namespace normd {
namespace {

using ::testing::HasSubstr;

constexpr MemoryUse kUses[] = {MemoryUse::kCache, MemoryUse::kWrites, MemoryUse::kStreams,
                               MemoryUse::kCalls, MemoryUse::kWatches};

TEST(MemoryBudgetTest, DealsOutAllButTheSparePart) {
  const MemoryBudget budget(kMemoryParts * kMiB);
  int64_t dealt = 0;
  for (const MemoryUse use : kUses) {
    EXPECT_GT(budget.share(use), 0);
    dealt += budget.share(use);
  }
  EXPECT_EQ(dealt, (kMemoryParts - kSpareMemoryParts) * kMiB);
  EXPECT_EQ(budget.share(MemoryUse::kStreams), kStreamsMemoryParts * kMiB);
}

TEST(MemoryBudgetTest, CountsByUseAndGivesBackWithTheObject) {
  MemoryBudget budget(kGiB);
  {
    MemoryReservation calls(&budget, MemoryUse::kCalls);
    MemoryReservation streams(&budget, MemoryUse::kStreams);
    EXPECT_EQ(budget.used(MemoryUse::kCalls), 0);
    calls.Resize(1000);
    streams.Resize(5);
    streams.Resize(3);
    EXPECT_EQ(calls.bytes(), 1000);
    EXPECT_EQ(budget.used(MemoryUse::kCalls), 1000);
    EXPECT_EQ(budget.used(MemoryUse::kStreams), 3);
  }
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 0);
  EXPECT_EQ(budget.used(MemoryUse::kStreams), 0);
}

TEST(MemoryBudgetTest, AReservationIsCountedOnceHoweverItMoves) {
  MemoryBudget budget(kGiB);
  MemoryReservation first(&budget, MemoryUse::kCalls);
  first.Resize(10);
  MemoryReservation second = std::move(first);
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 10);
  MemoryReservation third(&budget, MemoryUse::kStreams);
  third.Resize(7);
  third = std::move(second);
  EXPECT_EQ(third.bytes(), 10);
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 10);
  EXPECT_EQ(budget.used(MemoryUse::kStreams), 0) << "given back when something else moved in";
  third.Resize(0);
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 0);
}

TEST(MemoryBudgetTest, AUseGoesBeyondItsShareByOneReservation) {
  MemoryBudget budget(kGiB);
  const int64_t share = budget.share(MemoryUse::kCalls);
  MemoryReservation almost(&budget, MemoryUse::kCalls);
  ASSERT_TRUE(almost.TryResize(share - 1));
  EXPECT_TRUE(budget.HasRoom(MemoryUse::kCalls));
  MemoryReservation large(&budget, MemoryUse::kCalls);
  ASSERT_TRUE(large.TryResize(10 * share)) << "else what is larger than the share never fits";
  EXPECT_FALSE(budget.HasRoom(MemoryUse::kCalls));
  MemoryReservation refused(&budget, MemoryUse::kCalls);
  EXPECT_FALSE(refused.TryResize(1));
  EXPECT_EQ(refused.bytes(), 0);
  EXPECT_FALSE(almost.TryResize(share));
  EXPECT_EQ(almost.bytes(), share - 1) << "a refusal changes nothing";
  EXPECT_TRUE(almost.TryResize(1)) << "less is always possible";
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 10 * share + 1);
  refused.Resize(5);
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 10 * share + 6) << "what is there is counted";
  large.Resize(0);
  EXPECT_TRUE(refused.TryResize(6));
}

TEST(MemoryBudgetTest, NoUseTakesFromTheShareOfAnother) {
  MemoryBudget budget(kGiB);
  for (const MemoryUse use : kUses) {
    for (const MemoryUse other : kUses) {
      if (other != use) budget.Add(other, 2 * kGiB);
    }
    EXPECT_TRUE(budget.HasRoom(use)) << static_cast<int>(use);
    for (const MemoryUse other : kUses) {
      if (other != use) budget.Add(other, -2 * kGiB);
    }
  }
}

TEST(MemoryBudgetTest, TheCacheHasWhatTheOthersLeave) {
  constexpr int64_t kSpare = kGiB / kMemoryParts * kSpareMemoryParts;
  MemoryBudget budget(kGiB);
  EXPECT_EQ(budget.CacheBytesMax(), kGiB - kSpare);
  budget.Add(MemoryUse::kCache, kGiB - kSpare);
  EXPECT_EQ(budget.CacheBytesMax(), kGiB - kSpare) << "what it holds itself takes nothing from it";
  budget.Add(MemoryUse::kStreams, kSpare);
  EXPECT_FALSE(budget.IsExceeded()) << "the spare part is for that";
  EXPECT_EQ(budget.CacheBytesMax(), kGiB - 2 * kSpare);
  budget.Add(MemoryUse::kWatches, 1);
  EXPECT_TRUE(budget.IsExceeded());
  budget.Add(MemoryUse::kCalls, 2 * kGiB);
  EXPECT_EQ(budget.CacheBytesMax(), 0);
}

TEST(MemoryBudgetTest, TheCacheKeepsItsShareWhenTheOthersHaveTheirs) {
  MemoryBudget budget(kGiB);
  for (const MemoryUse use : kUses) {
    if (use != MemoryUse::kCache) budget.Add(use, budget.share(use));
  }
  EXPECT_EQ(budget.CacheBytesMax(), budget.share(MemoryUse::kCache));
}

TEST(MemoryBudgetTest, TellsWhoIsRefusedOfTheShare) {
  MemoryBudget budget(32 * kMiB);
  budget.Add(MemoryUse::kCalls, 5 * kMiB);
  const absl::Status status = budget.NoRoom(MemoryUse::kCalls);
  EXPECT_EQ(GetReason(status), Reason::kLimitReached);
  EXPECT_THAT(std::string(status.message()), HasSubstr("calls hold 5242880 bytes"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("less than 4194304"));
  EXPECT_EQ(GetErrorMetadata(status).at("limit"), "4194304");
}

TEST(MemoryBudgetTest, UnlimitedAlwaysHasRoom) {
  MemoryBudget& budget = *MemoryBudget::Unlimited();
  MemoryReservation much(&budget, MemoryUse::kStreams);
  EXPECT_TRUE(much.TryResize(int64_t{1} << 60));
  EXPECT_TRUE(budget.HasRoom(MemoryUse::kStreams));
  EXPECT_FALSE(budget.IsExceeded());
}

// However many threads try at once, one reservation crosses the share.
TEST(MemoryBudgetTest, OneOfManyThreadsCrossesTheShare) {
  constexpr int kThreads = 8;
  constexpr int64_t kBytes = 100;
  MemoryBudget budget(kMemoryParts * 1000);
  const int64_t share = budget.share(MemoryUse::kCalls);
  std::atomic<int64_t> taken = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      std::vector<MemoryReservation> held;
      for (int i = 0; i < 2000; ++i) {
        MemoryReservation one(&budget, MemoryUse::kCalls);
        if (one.TryResize(kBytes)) {
          ++taken;
          held.push_back(std::move(one));
        }
        EXPECT_LT(budget.used(MemoryUse::kCalls), share + kBytes);
        if (i % 3 == 0) held.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(taken, 0);
  EXPECT_EQ(budget.used(MemoryUse::kCalls), 0);
}

}  // namespace
}  // namespace normd
