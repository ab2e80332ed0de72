#include "core/base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"

namespace normd {
namespace {

TEST(ThreadPoolTest, RunsAllJobsBeforeTheDestructorReturns) {
  std::atomic<int> ran = 0;
  {
    ThreadPool pool(3);
    for (int i = 0; i < 1000; ++i) pool.Schedule([&ran] { ++ran; });
  }
  EXPECT_EQ(ran, 1000);
}

TEST(ThreadPoolTest, DestructorRunsWhatStillWaitsBehindABlockedJob) {
  absl::Notification go;
  std::atomic<int> ran = 0;
  auto pool = std::make_unique<ThreadPool>(1);
  pool->Schedule([&go] { go.WaitForNotification(); });
  for (int i = 0; i < 10; ++i) pool->Schedule([&ran] { ++ran; });
  std::thread destroyer([&pool] { pool.reset(); });
  EXPECT_EQ(ran, 0);
  go.Notify();
  destroyer.join();
  EXPECT_EQ(ran, 10);
}

TEST(ThreadPoolTest, DestructorRunsJobsThatJobsSchedule) {
  std::atomic<bool> ran = false;
  {
    ThreadPool pool(2);
    pool.Schedule([&] { pool.Schedule([&] { ran = true; }); });
  }
  EXPECT_TRUE(ran);
}

TEST(ThreadPoolTest, OneThreadRunsJobsInTheOrderOfTheCalls) {
  std::vector<int> order;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 500; ++i) pool.Schedule([&order, i] { order.push_back(i); });
  }
  std::vector<int> expected(500);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(ThreadPoolTest, ThreadsRunJobsAtTheSameTime) {
  constexpr int kThreads = 4;
  // Passed only when as many jobs as there are threads stand at it together.
  auto* barrier = new absl::Barrier(kThreads);
  ThreadPool pool(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    pool.Schedule([barrier] {
      if (barrier->Block()) delete barrier;
    });
  }
}

TEST(ThreadPoolTest, TakesJobsThatCanOnlyBeMoved) {
  int got = 0;
  {
    ThreadPool pool(1);
    pool.Schedule([value = std::make_unique<int>(7), &got] { got = *value; });
  }
  EXPECT_EQ(got, 7);
}

TEST(ThreadPoolTest, FreesAJobAsSoonAsItRan) {
  absl::Notification freed;
  ThreadPool pool(1);
  pool.Schedule([guard = std::shared_ptr<void>(nullptr, [&freed](void*) { freed.Notify(); })] {});
  freed.WaitForNotification();
}

}  // namespace
}  // namespace normd
