#include "core/store/name_locks.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

using Commit = std::vector<StoreMutation>;

TEST(NameLocksTest, LetsCommitsOfOtherNamesPass) {
  NameLocks locks;
  const Commit first = {Put("a", 0, 1, "x"), Put("b", 0, 1, "x")};
  const Commit second = {Put("c", 0, 1, "x"), Delete("ab", 1)};
  const Commit none;
  locks.Acquire(first);
  locks.Acquire(second);
  locks.Acquire(none);
  locks.Release(first);
  locks.Acquire(first);
  locks.Release(second);
  locks.Release(none);
  locks.Release(first);
}

TEST(NameLocksTest, HoldsACommitUpUntilAllItsNamesAreFree) {
  NameLocks locks;
  const Commit first = {Put("a", 0, 1, "x"), Put("b", 0, 1, "x")};
  const Commit second = {Put("c", 0, 1, "x")};
  const Commit both = {Put("b", 1, 2, "x"), Put("c", 1, 2, "x")};
  locks.Acquire(first);
  locks.Acquire(second);
  absl::Notification acquired;
  std::thread waiter([&] {
    locks.Acquire(both);
    acquired.Notify();
  });
  EXPECT_FALSE(acquired.WaitForNotificationWithTimeout(absl::Milliseconds(20)));
  locks.Release(first);
  EXPECT_FALSE(acquired.WaitForNotificationWithTimeout(absl::Milliseconds(20)));
  locks.Release(second);
  acquired.WaitForNotification();
  waiter.join();
  locks.Release(both);
  locks.Acquire(first);
  locks.Release(first);
}

}  // namespace
}  // namespace normd
