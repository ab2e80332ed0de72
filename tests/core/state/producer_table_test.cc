#include "core/state/producer_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::ElementsAre;
using testing::Pair;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);
constexpr ProducerLimits kTwoForAnHour = {.producers_max = 2, .age_max = absl::Hours(1)};

TEST(ProducerTableTest, UnknownProducerHasSequenceZero) {
  EXPECT_EQ(ProducerTable().Sequence("a"), 0);
}

TEST(ProducerTableTest, RemembersTheLastSequenceAndItsTime) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("a", 5, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("b", 1, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("a", 9, kNow + absl::Minutes(1), kTwoForAnHour).ok());
  EXPECT_EQ(table.Sequence("a"), 9);
  EXPECT_EQ(table.Sequence("b"), 1);
  EXPECT_EQ(table.Find("a")->update_time, kNow + absl::Minutes(1));
}

TEST(ProducerTableTest, FullTableRefusesANewProducerAndForgetsNone) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("a", 5, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("b", 7, kNow, kTwoForAnHour).ok());
  // Exactly as old as allowed.
  const absl::Status status = table.Record("c", 1, kNow + absl::Hours(1), kTwoForAnHour);
  EXPECT_THAT(status, IsError(Reason::kProducerTableFull,
                              "producer 'c' is new and 2 producers are known, at most 2 are (too "
                              "few were silent for longer than 1h)"));
  EXPECT_THAT(GetErrorMetadata(status),
              ElementsAre(Pair("field", "producer_id"), Pair("limit", "2")));
  EXPECT_EQ(table.entries().size(), 2U);
  EXPECT_EQ(table.Sequence("a"), 5);
  EXPECT_EQ(table.Sequence("b"), 7);
  EXPECT_EQ(table.Sequence("c"), 0);
}

TEST(ProducerTableTest, FullTableStillTakesAKnownProducer) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("a", 5, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("b", 7, kNow, kTwoForAnHour).ok());
  EXPECT_TRUE(table.Record("a", 6, kNow, kTwoForAnHour).ok());
  EXPECT_EQ(table.Sequence("a"), 6);
}

TEST(ProducerTableTest, NewProducerTakesThePlaceOfTheSilentOneOnly) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("silent", 5, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("live", 7, kNow + absl::Minutes(30), kTwoForAnHour).ok());
  const absl::Time later = kNow + absl::Hours(1) + absl::Microseconds(1);
  ASSERT_TRUE(table.Record("new", 1, later, kTwoForAnHour).ok());
  EXPECT_EQ(table.Sequence("silent"), 0);
  EXPECT_EQ(table.Sequence("live"), 7);
  EXPECT_EQ(table.Sequence("new"), 1);
}

TEST(ProducerTableTest, NewProducerTakesThePlaceOfNoLiveOneAmongMany) {
  constexpr ProducerLimits kHundredForAnHour = {.producers_max = 100, .age_max = absl::Hours(1)};
  ProducerTable table;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(table.Record("silent" + std::to_string(i), 1, kNow, kHundredForAnHour).ok());
  }
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(
        table.Record("live" + std::to_string(i), 1, kNow + absl::Hours(1), kHundredForAnHour).ok());
  }
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(
        table.Record("new" + std::to_string(i), 1, kNow + absl::Minutes(61), kHundredForAnHour)
            .ok());
    for (int j = 0; j < 50; ++j) {
      ASSERT_EQ(table.Sequence("live" + std::to_string(j)), 1) << "after new producer " << i;
    }
  }
  EXPECT_EQ(table.Sequence("silent0"), 0);
  EXPECT_THAT(table.Record("one more", 1, kNow + absl::Minutes(61), kHundredForAnHour),
              HasReason(Reason::kProducerTableFull));
}

TEST(ProducerTableTest, AnUpdateKeepsAProducerAlive) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("a", 1, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("b", 1, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("a", 2, kNow + absl::Minutes(59), kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("c", 1, kNow + absl::Minutes(90), kTwoForAnHour).ok());
  EXPECT_EQ(table.Sequence("a"), 2);
  EXPECT_EQ(table.Sequence("b"), 0);
}

TEST(ProducerTableTest, SilentProducersAreKeptWhileThereIsRoom) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("a", 5, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("b", 1, kNow + absl::Hours(1000), kTwoForAnHour).ok());
  EXPECT_EQ(table.Sequence("a"), 5);
}

TEST(ProducerTableTest, AClockThatJumpsBackForgetsNone) {
  ProducerTable table;
  ASSERT_TRUE(table.Record("a", 5, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record("b", 7, kNow, kTwoForAnHour).ok());
  EXPECT_THAT(table.Record("c", 1, kNow - absl::Hours(1000), kTwoForAnHour),
              HasReason(Reason::kProducerTableFull));
  EXPECT_EQ(table.entries().size(), 2U);
}

// A limit that was lowered leaves a table with more producers than are allowed. Forgetting the
// silent ones did not make room, and yet they were gone.
TEST(ProducerTableTest, RefusalForgetsNoSilentProducerEither) {
  ProducerTable table;
  for (const char* live : {"a", "b"}) {
    ASSERT_TRUE(table.Record(live, 5, kNow + absl::Hours(2), {}).ok());
  }
  ASSERT_TRUE(table.Record("silent", 3, kNow, {}).ok());
  EXPECT_THAT(table.Record("new", 1, kNow + absl::Hours(2), kTwoForAnHour),
              HasReason(Reason::kProducerTableFull));
  EXPECT_EQ(table.Sequence("silent"), 3);
  EXPECT_EQ(table.entries().size(), 3U);
}

TEST(ProducerTableTest, RestorePutsAnEntryBack) {
  ProducerTable table;
  table.Restore("a", 12, kNow);
  EXPECT_EQ(table.Sequence("a"), 12);
  EXPECT_EQ(table.Find("a")->update_time, kNow);
}

TEST(ProducerTableTest, MemoryGrowsWithProducersAndTheirIds) {
  ProducerTable short_ids;
  ProducerTable long_ids;
  EXPECT_EQ(short_ids.MemoryBytes(), 0);
  for (int i = 0; i < 100; ++i) {
    short_ids.Restore(std::to_string(i), 1, kNow);
    long_ids.Restore(std::string(100, 'x') + std::to_string(i), 1, kNow);
  }
  EXPECT_GE(short_ids.MemoryBytes(), 100 * 48);
  EXPECT_GE(long_ids.MemoryBytes(), short_ids.MemoryBytes() + 100 * 80);
}

TEST(ProducerTableTest, MemoryOfThoseForgottenIsNotCounted) {
  const std::string id(100, 'x');
  ProducerTable table;
  ASSERT_TRUE(table.Record(id + "1", 1, kNow, kTwoForAnHour).ok());
  ASSERT_TRUE(table.Record(id + "2", 1, kNow, kTwoForAnHour).ok());
  const int64_t of_two = table.MemoryBytes();
  ASSERT_TRUE(table.Record(id + "2", 2, kNow + absl::Hours(2), kTwoForAnHour).ok());
  EXPECT_EQ(table.MemoryBytes(), of_two);
  ASSERT_TRUE(table.Record("3", 1, kNow + absl::Hours(2), kTwoForAnHour).ok());
  EXPECT_EQ(table.MemoryBytes(), of_two - 100);
}

}  // namespace
}  // namespace normd
