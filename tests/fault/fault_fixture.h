#ifndef NORMD_TESTS_FAULT_FAULT_FIXTURE_H_
#define NORMD_TESTS_FAULT_FAULT_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/fault/train_load.h"
#include "tests/testing/seeded_random.h"
#include "tests/testing/server_process.h"
#include "tests/testing/temp_dir.h"

namespace normd::testing {

// A data folder, a server on it that can be lost and started again at the same address, and the
// checks of what it kept.
class FaultTest : public ::testing::Test {
 protected:
  // Starts a server on the data folder, at the address of the one before. Fails the test when it
  // does not serve.
  void StartServer(ServerOptions options = {});

  // Starts the load on the server. Fails the test when it cannot.
  void StartLoad(int clients);

  // What a server that opens the data folder, and that no client of the load can reach, holds: at
  // least what was acknowledged and at most what was sent, and of each client exactly the fold of a
  // first part of its updates. REQUIRES: no server runs on the folder.
  void CheckNothingAcknowledgedIsLost();

  // Lets the load finish, and checks that each state holds every update of it once.
  void FinishLoadAndCheckEveryUpdateOnce();

  // A connection to the server. Its predecessor must be gone when the server was lost: gRPC shares
  // connections to one address, lost ones too.
  std::unique_ptr<client::Client> Connect(absl::Duration call_timeout = absl::Seconds(30));

  // Random in [low, high].
  int64_t Uniform(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  SeededRandom random_;
  TempDir data_;
  std::string address_;
  int checks_ = 0;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TrainLoad> load_;  // after server_: it ends first
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_FAULT_FAULT_FIXTURE_H_
