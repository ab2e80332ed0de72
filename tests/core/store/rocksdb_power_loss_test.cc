// The disk of a process that commits loses its power at random moments: what was not synced is
// gone, and what was acknowledged is there. The disk is an ext4 on a loop device, whose journal is
// shut down; needs the right to mount.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/store/rocksdb_state_store.h"
#include "tests/core/store/store_test_util.h"
#include "tests/core/store/writer_process.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr int kCycles = 12;

// EXT4_IOC_SHUTDOWN and its flag for "write nothing more, not even the journal".
constexpr unsigned long kExt4Shutdown = _IOR('X', 125, uint32_t);
constexpr uint32_t kNoLogFlush = 2;

bool Shell(const std::string& command) { return std::system(command.c_str()) == 0; }

class RocksdbPowerLossTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(Shell(absl::StrCat("truncate -s 96M ", image_, " && mkfs.ext4 -q -F ", image_,
                                   " && mkdir ", mount_)));
    if (!Mount()) {
      // ctest takes the word for the whole program.
      ASSERT_EQ(testing::UnitTest::GetInstance()->failed_test_count(), 0) << "cannot mount";
      GTEST_SKIP() << "SKIPPED: this test needs root and a loop device, so what a power loss does "
                      "to a store was not tested";
    }
    mounted_ = true;
  }

  void TearDown() override {
    if (!mounted_) return;
    EXPECT_TRUE(Shell("umount " + mount_));
  }

  bool Mount() const { return Shell(absl::StrCat("mount -o loop ", image_, " ", mount_)); }

  // Runs a writer until it has acknowledged `commits_min` commits, and then takes the power away
  // and gives it back.
  void RunUntilPowerLoss(int commits_min, const std::vector<std::string>& environment = {}) {
    const auto cut_power = [this](pid_t writer) {
      // What it has written to its pipe is acknowledged; from here on it writes no more.
      EXPECT_EQ(kill(writer, SIGSTOP), 0);
      EXPECT_EQ(waitpid(writer, nullptr, WUNTRACED), writer);
      const int fd = open(mount_.c_str(), O_RDONLY | O_CLOEXEC);
      uint32_t flag = kNoLogFlush;
      EXPECT_EQ(ioctl(fd, kExt4Shutdown, &flag), 0) << std::strerror(errno);
      close(fd);
    };
    ASSERT_NO_FATAL_FAILURE(
        RunAndKill({data_, commits_min, environment, cut_power}, acknowledged_));
    ASSERT_TRUE(Shell("umount " + mount_));
    mounted_ = Mount();
    ASSERT_TRUE(mounted_);
  }

  // What was lost; empty: nothing.
  std::string FindLoss() {
    const auto store = OpenRocksdbStateStore(SmallOptions(data_));
    if (!store.ok()) return store.status().ToString();
    return normd::FindLoss(**store, acknowledged_);
  }

  const TempFolder folder_;
  const std::string image_ = folder_.Child("image");
  const std::string mount_ = folder_.Child("disk");
  const std::string data_ = mount_ + "/data";
  bool mounted_ = false;
  std::map<std::string, int64_t> acknowledged_;
};

TEST_F(RocksdbPowerLossTest, LosesNothingThatWasAcknowledged) {
  SeededRandom generator;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    SCOPED_TRACE(absl::StrCat("cycle ", cycle));
    ASSERT_NO_FATAL_FAILURE(RunUntilPowerLoss(1 + static_cast<int>(generator() % 700)));
    ASSERT_EQ(FindLoss(), "");
  }
}

// Else the test above could not fail.
TEST_F(RocksdbPowerLossTest, WithoutSyncsWhatWasAcknowledgedIsLost) {
  ASSERT_NO_FATAL_FAILURE(
      RunUntilPowerLoss(100, {"LD_PRELOAD=" NORMD_SYNC_FAULT_LIBRARY, "NORMD_SYNC_FAULT_NONE=1",
                              "ASAN_OPTIONS=verify_asan_link_order=0"}));
  EXPECT_NE(FindLoss(), "");
}

}  // namespace
}  // namespace normd
