#include "server/serving_queue.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace normd {
namespace {

// Which only a hang can reach.
constexpr absl::Duration kPatience = absl::Seconds(20);

// Computes for several times as long as a thread that may rest waits for an event.
void ComputeForLong() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (std::chrono::steady_clock::now() < end) {
  }
}

class ServingQueueTest : public ::testing::Test {
 protected:
  void Start(int threads) {
    grpc::ServerBuilder builder;
    queue_ = std::make_unique<ServingQueue>(builder, threads);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    queue_->Start();
  }

  ~ServingQueueTest() override {
    server_->Shutdown();
    queue_.reset();
  }

  std::unique_ptr<ServingQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(ServingQueueTest, AnotherThreadServesFromBeginToEndOfLongWork) {
  for (const int threads : {2, 3, 8}) {
    SCOPED_TRACE(threads);
    Start(threads);
    absl::Notification done;
    std::atomic<int> served = 0;
    queue_->Post([&] {
      const ServingQueue::LongWork long_work(queue_.get());
      for (int i = 0; i < 5; ++i) {
        ComputeForLong();
        const auto event = std::make_shared<absl::Notification>();
        queue_->Post([event] { event->Notify(); });
        if (!event->WaitForNotificationWithTimeout(kPatience / 10)) break;
        ++served;
      }
      done.Notify();
    });
    EXPECT_TRUE(done.WaitForNotificationWithTimeout(kPatience));
    EXPECT_EQ(served, 5);
    server_->Shutdown();
    queue_.reset();
  }
}

// Puts itself off again for so many times.
class Deferred final : public DeferredWork, public std::enable_shared_from_this<Deferred> {
 public:
  explicit Deferred(ServingQueue* queue, int times = 1) : queue_(queue), rest_(times) {}

  void RunDeferred() override {
    if (--rest_ == 0) return;
    EXPECT_TRUE(ServingQueue::User(queue_).Defer(shared_from_this()));
  }

  bool has_run() const { return rest_ == 0; }

 private:
  ServingQueue* const queue_;
  std::atomic<int> rest_;
};

TEST_F(ServingQueueTest, WhatWasPutOffIsDoneBeforeLongWork) {
  Start(1);
  const auto deferred = std::make_shared<Deferred>(queue_.get(), /*times=*/3);
  absl::Notification done;
  bool had_run = false;
  queue_->Post([&] {
    EXPECT_TRUE(ServingQueue::User(queue_.get()).Defer(deferred));
    queue_->Post([&] {
      const ServingQueue::LongWork long_work(queue_.get());
      had_run = deferred->has_run();
      done.Notify();
    });
  });
  ASSERT_TRUE(done.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(had_run);
}

TEST_F(ServingQueueTest, OnAnotherThreadNothingIsPutOff) {
  Start(1);
  EXPECT_FALSE(ServingQueue::User(queue_.get()).Defer(std::make_shared<Deferred>(queue_.get())));
}

}  // namespace
}  // namespace normd
