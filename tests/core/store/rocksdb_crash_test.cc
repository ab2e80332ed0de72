// A process that commits is killed at random moments; what it acknowledged is there.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/store/store_test_util.h"
#include "tests/core/store/writer_process.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr int kCycles = 20;

TEST(RocksdbCrashTest, AKilledProcessLosesNothingItAcknowledged) {
  SeededRandom generator;
  const TempFolder folder;
  const std::string data = folder.Child("data");
  std::map<std::string, int64_t> acknowledged;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    SCOPED_TRACE(absl::StrCat("cycle ", cycle));
    ASSERT_NO_FATAL_FAILURE(
        RunAndKill({data, 1 + static_cast<int>(generator() % 700)}, acknowledged));
    ASSERT_EQ(FindLoss(*OpenOrDie(data), acknowledged), "");
  }
}

}  // namespace
}  // namespace normd
