// kill -9 at random moments under streaming clients: promise 1 of the design.
#include <gtest/gtest.h>

#include "tests/fault/fault_fixture.h"

namespace normd::testing {
namespace {

constexpr int kCycles = 20;
constexpr int kClients = 4;

class CrashTest : public FaultTest {};

TEST_F(CrashTest, AppliesEveryUpdateOnceOverTwentyKills) {
  StartServer();
  StartLoad(kClients);
  for (int cycle = 1; cycle <= kCycles && !HasFatalFailure(); ++cycle) {
    SCOPED_TRACE(cycle);
    const absl::Status flowing = load_->WaitForResults(Uniform(1, 1000));
    ASSERT_TRUE(flowing.ok()) << flowing << "\n" << server_->Log();
    ASSERT_FALSE(server_->Wait(absl::Microseconds(Uniform(0, 50000))).has_value())
        << "the server ended by itself\n"
        << server_->Log();
    server_->Kill();
    CheckNothingAcknowledgedIsLost();
    StartServer();
  }
  FinishLoadAndCheckEveryUpdateOnce();
  EXPECT_GT(load_->duplicates(), 0) << "no kill hit an update between commit and answer";
}

TEST_F(CrashTest, SurvivesKillsWhileItRecovers) {
  StartServer();
  StartLoad(kClients);
  for (int cycle = 1; cycle <= 5 && !HasFatalFailure(); ++cycle) {
    SCOPED_TRACE(cycle);
    const absl::Status flowing = load_->WaitForResults(Uniform(1, 200));
    ASSERT_TRUE(flowing.ok()) << flowing << "\n" << server_->Log();
    server_->Kill();
    for (int kills = 0; kills < 3; ++kills) {
      StartServer();
      server_->Kill();
    }
    CheckNothingAcknowledgedIsLost();
    StartServer();
  }
  FinishLoadAndCheckEveryUpdateOnce();
}

}  // namespace
}  // namespace normd::testing
