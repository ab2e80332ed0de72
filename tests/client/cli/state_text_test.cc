#include "client/cli/state_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cpp/state.h"

namespace normd::cli {
namespace {

using testing::HasSubstr;

TEST(StateTextTest, ACalibrationHasItsIdUnlessItIsFromBeforeIds) {
  client::State state;
  state.config = client::StateConfig::BatchNorm(2);
  state.calibration = {.method = client::CalibrationMethod::kPooled,
                       .num_batches = 3,
                       .count = 96,
                       .calibration_id = "5f3-2"};
  EXPECT_THAT(StateToText(state, 0),
              HasSubstr(" POOLED, 3 batches, 96 values a channel, id 5f3-2\n"));
  state.calibration->calibration_id.clear();
  EXPECT_THAT(StateToText(state, 0), HasSubstr(" POOLED, 3 batches, 96 values a channel\n"));
}

}  // namespace
}  // namespace normd::cli
