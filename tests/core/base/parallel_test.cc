#include "core/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"

namespace normd {
namespace {

constexpr uint32_t kSeed = 20240610;

TEST(ParallelRunnerTest, InlineRunsThePiecesInOrderOnTheCallersThread) {
  std::vector<std::pair<size_t, std::thread::id>> ran;
  ParallelRunner::Inline()->Run(
      4, [&ran](size_t piece) { ran.emplace_back(piece, std::this_thread::get_id()); });
  const std::thread::id self = std::this_thread::get_id();
  EXPECT_EQ(ran, (std::vector<std::pair<size_t, std::thread::id>>{
                     {0, self}, {1, self}, {2, self}, {3, self}}));
  EXPECT_EQ(ParallelRunner::Inline()->width(), 1);
}

class ParallelRunnerWidthTest : public testing::TestWithParam<int> {
 protected:
  const std::unique_ptr<ParallelRunner> runner_ = MakeParallelRunner(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Threads, ParallelRunnerWidthTest, testing::Values(1, 2, 3, 8));

TEST_P(ParallelRunnerWidthTest, IsTheNumberOfThreads) {
  EXPECT_EQ(runner_->width(), static_cast<size_t>(GetParam()));
}

TEST_P(ParallelRunnerWidthTest, RunsEveryPieceOnceBeforeItReturns) {
  for (size_t pieces : {0, 1, 2, 3, 7, 8, 9, 1000}) {
    // Plain integers: what a piece wrote must be seen when Run has returned.
    std::vector<int> runs(pieces, 0);
    runner_->Run(pieces, [&runs](size_t piece) { ++runs[piece]; });
    EXPECT_EQ(runs, std::vector<int>(pieces, 1));
  }
}

// Pieces that stand at a barrier together, as many as there are threads, can only have run at the
// same time.
TEST_P(ParallelRunnerWidthTest, RunsAsManyPiecesAtOnceAsItIsWide) {
  auto* const barrier = new absl::Barrier(GetParam());
  runner_->Run(runner_->width(), [barrier](size_t) {
    if (barrier->Block()) delete barrier;
  });
}

// With every other thread kept busy the caller does all of its pieces by itself.
TEST_P(ParallelRunnerWidthTest, NeedsNoIdleThread) {
  if (GetParam() == 1) return;  // It has no other thread, which the tests above cover.
  absl::BlockingCounter busy(GetParam());
  absl::Notification release;
  std::thread occupant([&] {
    runner_->Run(runner_->width(), [&](size_t) {
      busy.DecrementCount();
      release.WaitForNotification();
    });
  });
  busy.Wait();

  std::vector<std::thread::id> ran_on(100);
  runner_->Run(ran_on.size(),
               [&ran_on](size_t piece) { ran_on[piece] = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, std::vector<std::thread::id>(100, std::this_thread::get_id()));
  release.Notify();
  occupant.join();
}

// A computation waits for the pieces that others still run, not only for its own.
TEST_P(ParallelRunnerWidthTest, ReturnsAfterTheLastPiece) {
  if (GetParam() == 1) return;  // Nobody else runs a piece.
  absl::Notification other_runs;
  absl::Notification caller_done;
  absl::Notification other_done;
  std::atomic<bool> returned = false;
  const std::thread::id caller = std::this_thread::get_id();
  runner_->Run(2, [&](size_t) {
    if (std::this_thread::get_id() == caller) {
      other_runs.WaitForNotification();
      caller_done.Notify();
    } else {
      other_runs.Notify();
      caller_done.WaitForNotification();
      // Time enough for the caller to return, had it not to wait.
      for (int i = 0; i < 100'000 && !returned; ++i) std::this_thread::yield();
      EXPECT_FALSE(returned);
      other_done.Notify();
    }
  });
  returned = true;
  other_done.WaitForNotification();
}

TEST_P(ParallelRunnerWidthTest, ServesManyCallersAtOnce) {
  RecordProperty("seed", static_cast<int>(kSeed));
  constexpr int kCallers = 6;
  std::vector<std::thread> callers;
  std::atomic<int> wrong = 0;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([this, caller, &wrong] {
      std::mt19937 random(kSeed + caller);
      for (int round = 0; round < 500; ++round) {
        const size_t pieces = random() % 20;
        std::vector<size_t> results(pieces, 0);
        runner_->Run(pieces, [&results](size_t piece) { results[piece] += piece + 1; });
        for (size_t piece = 0; piece < pieces; ++piece) {
          if (results[piece] != piece + 1) ++wrong;
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0) << "with seed " << kSeed;
}

TEST_P(ParallelRunnerWidthTest, EndsAtOnceAfterItsLastComputation) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> ran = 0;
    const std::unique_ptr<ParallelRunner> runner = MakeParallelRunner(GetParam());
    if (round % 2 == 0) runner->Run(5, [&ran](size_t) { ++ran; });
    EXPECT_EQ(ran, round % 2 == 0 ? 5 : 0);
  }
}

}  // namespace
}  // namespace normd
