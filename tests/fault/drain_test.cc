// SIGTERM under load: promise 4 of the design.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/fault/fault_fixture.h"
#include "tests/testing/health_watch.h"

namespace normd::testing {
namespace {

class DrainTest : public FaultTest {};

TEST_F(DrainTest, LosesNothingAcknowledgedAndExitsWithZero) {
  StartServer();
  StartLoad(4);
  const absl::Status flowing = load_->WaitForResults(500);
  ASSERT_TRUE(flowing.ok()) << flowing;
  server_->Signal(SIGTERM);
  const auto ended = server_->Wait(absl::Seconds(40));
  ASSERT_TRUE(ended.has_value()) << "still running 40 s after SIGTERM\n" << server_->Log();
  EXPECT_EQ(ended->signal, 0) << server_->Log();
  EXPECT_EQ(ended->code, 0) << server_->Log();
  CheckNothingAcknowledgedIsLost();
  StartServer();
  FinishLoadAndCheckEveryUpdateOnce();
}

TEST_F(DrainTest, TurnsHealthToNotServing) {
  StartServer();
  StartLoad(1);
  HealthWatch health(address_, "normd.v1.NormalizationService");
  ASSERT_EQ(health.Next(), HealthStatus::kServing);
  server_->Signal(SIGTERM);
  EXPECT_EQ(health.Next(), HealthStatus::kNotServing);
  const auto ended = server_->Wait(absl::Seconds(40));
  ASSERT_TRUE(ended.has_value()) << server_->Log();
  EXPECT_EQ(ended->code, 0) << server_->Log();
}

TEST_F(DrainTest, EndsAtOnceWithoutClients) {
  StartServer();
  server_->Signal(SIGTERM);
  const auto ended = server_->Wait(absl::Seconds(10));
  ASSERT_TRUE(ended.has_value()) << server_->Log();
  EXPECT_EQ(ended->code, 0) << server_->Log();
}

}  // namespace
}  // namespace normd::testing
