// When relaxed updates are answered, committed and seen.
#include <gtest/gtest.h>

#include <memory>

#include "tests/core/registry/registry_testing.h"
#include "tests/core/registry/write_combiner_fixture.h"

namespace normd::testing {
namespace {

TEST_F(WriteCombinerTest, AnswersRelaxedBeforeTheDisk) {
  Start();
  const auto entry = NewState("a");
  store_.Close();
  const auto relaxed = Submit(entry, Fold(1), Durability::kRelaxed);
  ASSERT_TRUE(relaxed->done.HasBeenNotified());
  EXPECT_TRUE(relaxed->status.ok());
  EXPECT_EQ(relaxed->published->revision, 1) << "the value on disk, without the update";
  store_.Open();
  EXPECT_TRUE(Submit(entry, Look())->Await().ok());
  EXPECT_EQ(entry->published()->revision, 2);
}

TEST_F(WriteCombinerTest, RelaxedUpdatesWaitForEachOtherAndForOneThatIsWaitedFor) {
  Start({.relaxed_commit_delay = absl::Hours(24)});
  const auto first = NewState("first");
  const auto second = NewState("second");
  for (int i = 0; i < 10; ++i) {
    for (const auto& entry : {first, second}) {
      EXPECT_TRUE(Submit(entry, Fold(1), Durability::kRelaxed)->done.HasBeenNotified());
    }
  }
  EXPECT_EQ(store_.commits_begun(), 2);
  EXPECT_EQ(second->published()->revision, 1) << "durable first, then visible";
  EXPECT_TRUE(Submit(first, Fold(1))->Await().ok());
  EXPECT_EQ(store_.commits_begun(), 3) << "of both states";
  EXPECT_EQ(first->published()->revision, 12);
  EXPECT_EQ(second->published()->revision, 11);
}

TEST_F(WriteCombinerTest, RelaxedUpdatesAreCommittedAfterTheDelay) {
  Start({.relaxed_commit_delay = absl::Milliseconds(1)});
  const auto entry = NewState("a");
  Submit(entry, Fold(1), Durability::kRelaxed);
  store_.AwaitCommitsBegun(2);
}

TEST_F(WriteCombinerTest, RelaxedUpdatesOfManyBytesDoNotWait) {
  Start({.dirty_bytes_max = 100'000, .relaxed_commit_delay = absl::Hours(24)});
  const auto entry = NewState("a", 1000);
  ASSERT_GT(entry->published()->MemoryBytes(), 100'000 / 4);
  Submit(entry, Fold(1), Durability::kRelaxed);
  store_.AwaitCommitsBegun(2);
}

TEST_F(WriteCombinerTest, RelaxedWaitsForTheDiskWhenTooMuchIsBehind) {
  Start({.dirty_bytes_max = 100'000});
  const auto small = NewState("small", 1);
  const auto large = NewState("large", 3000);
  store_.Close();
  const auto first = Submit(large, Fold(1), Durability::kRelaxed);
  EXPECT_TRUE(first->done.HasBeenNotified());
  const auto second = Submit(small, Fold(1), Durability::kRelaxed);
  EXPECT_FALSE(second->done.HasBeenNotified());
  store_.Open();
  EXPECT_TRUE(second->Await().ok());
}

TEST_F(WriteCombinerTest, ShutdownDoesNotWaitForTheDelay) {
  Start({.relaxed_commit_delay = absl::Hours(24)});
  const auto entry = NewState("a");
  Submit(entry, Fold(1), Durability::kRelaxed);
  combiner_->Shutdown(absl::InfiniteDuration());
  EXPECT_EQ(store_.Load("a")->revision, 2);
}

}  // namespace
}  // namespace normd::testing
