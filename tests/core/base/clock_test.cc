#include "core/base/clock.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"

namespace normd {
namespace {

TEST(ClockTest, SystemClockTellsTheTimeOfTheMachine) {
  const absl::Time before = absl::Now();
  const absl::Time told = Clock::System()->Now();
  const absl::Time after = absl::Now();
  EXPECT_LT(before - absl::Microseconds(1), told);
  EXPECT_LE(told, after);
  EXPECT_EQ(told, absl::FromUnixMicros(absl::ToUnixMicros(told))) << "whole microseconds";
}

TEST(ClockTest, SystemClockIsOne) { EXPECT_EQ(Clock::System(), Clock::System()); }

}  // namespace
}  // namespace normd
