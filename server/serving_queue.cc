#include "server/serving_queue.h"

#include <grpc/support/time.h>
#include <grpcpp/alarm.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <utility>

#include "core/base/clock.h"

namespace normd {
namespace {

using Clock = std::chrono::steady_clock;

// Events that deferred work waits for at most.
constexpr int kEventsBeforeDeferredMax = 32;

// How long a thread's load is looked at before another joins or the thread rests, and how long one
// that could rest waits for an event.
constexpr std::chrono::milliseconds kLoadPeriod(2);
// So that small events do not pay for a look at the clock each.
constexpr int kEventsPerLook = 8;
// Parts of its time that a thread runs when another joins, and below which it rests. One that is
// ready to run and does not for want of a core is not busy: another would not help.
constexpr double kBusyPart = 0.9;
constexpr double kIdlePart = 0.5;

// What is deferred on the queue of this thread.
struct Deferred {
  const grpc::ServerCompletionQueue* queue = nullptr;
  std::deque<std::shared_ptr<DeferredWork>> work;
  int events = 0;  // since the first of them
};
thread_local Deferred deferred;

// Until nothing is deferred: what runs may defer more.
void RunDeferred() {
  deferred.events = 0;
  while (!deferred.work.empty()) {
    const std::shared_ptr<DeferredWork> work = std::move(deferred.work.front());
    deferred.work.pop_front();
    work->RunDeferred();
  }
}

// How much of its time the calling thread runs, period by period.
class Load {
 public:
  enum class Verdict { kNone, kBusy, kIdle };

  // An event of `call` has been served. Tells, at the end of a period, what it was like; busy only
  // when it had events of several calls, since one call alone is served by one thread at a time.
  Verdict OnEvent(const void* call) {
    several_calls_ |= call != call_ && call_ != nullptr;
    call_ = call;
    if (++events_ < kEventsPerLook) return Verdict::kNone;
    events_ = 0;
    const Clock::time_point now = Clock::now();
    if (now - begin_ < kLoadPeriod) return Verdict::kNone;
    const std::chrono::nanoseconds cpu = CpuTime(CLOCK_THREAD_CPUTIME_ID);
    const auto ran = std::chrono::duration<double>(cpu - begin_cpu_);
    const auto passed = std::chrono::duration<double>(now - begin_);
    const bool several_calls = several_calls_;
    begin_ = now;
    begin_cpu_ = cpu;
    several_calls_ = false;
    if (ran < kIdlePart * passed) return Verdict::kIdle;
    return several_calls && ran >= kBusyPart * passed ? Verdict::kBusy : Verdict::kNone;
  }

 private:
  Clock::time_point begin_ = Clock::now();
  std::chrono::nanoseconds begin_cpu_ = CpuTime(CLOCK_THREAD_CPUTIME_ID);
  const void* call_ = nullptr;
  bool several_calls_ = false;
  int events_ = 0;  // since the last look
};

gpr_timespec Deadline(bool rests) {
  if (!deferred.work.empty()) return gpr_inf_past(GPR_CLOCK_REALTIME);
  if (!rests) return gpr_inf_future(GPR_CLOCK_REALTIME);
  return gpr_time_from_millis(kLoadPeriod.count(), GPR_TIMESPAN);
}

}  // namespace

// Work on its way to a thread of the queue; owns itself.
class ServingQueue::Posted final : public QueueEvent {
 public:
  Posted(ServingQueue* queue, absl::AnyInvocable<void()> work)
      : queue_(queue), work_(std::move(work)) {
    alarm_.Set(queue_.queue(), gpr_inf_past(GPR_CLOCK_MONOTONIC), this);
  }

  void OnEvent(bool /*ok*/) override {
    work_();
    delete this;
  }

  const void* call() const override { return this; }

 private:
  const User queue_;
  absl::AnyInvocable<void()> work_;
  grpc::Alarm alarm_;
};

ServingQueue::User::User(ServingQueue* queue) : queue_(queue) {
  absl::MutexLock lock(&queue_->mutex_);
  ++queue_->users_;
}

ServingQueue::User::~User() {
  absl::MutexLock lock(&queue_->mutex_);
  --queue_->users_;
}

bool ServingQueue::User::Defer(std::shared_ptr<DeferredWork> work) const {
  if (deferred.queue != queue()) return false;
  deferred.work.push_back(std::move(work));
  return true;
}

ServingQueue::LongWork::LongWork(ServingQueue* queue) : queue_(queue) {
  RunDeferred();
  {
    absl::MutexLock lock(&queue_->mutex_);
    ++queue_->long_works_;
  }
  queue_->WakeThread();
}

ServingQueue::LongWork::~LongWork() {
  absl::MutexLock lock(&queue_->mutex_);
  --queue_->long_works_;
}

ServingQueue::ServingQueue(grpc::ServerBuilder& builder, int threads_max)
    : threads_max_(threads_max), queue_(builder.AddCompletionQueue()) {}

ServingQueue::~ServingQueue() {
  if (threads_.empty()) Start();
  {
    const auto is_unused = [this] {
      mutex_.AssertReaderHeld();
      return users_ == 0;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_unused));
    ended_ = true;
  }
  queue_->Shutdown();
  for (std::thread& thread : threads_) thread.join();
}

void ServingQueue::Start() {
  for (int i = 0; i < threads_max_; ++i) {
    threads_.emplace_back([this, rests = i > 0] { Run(rests); });
  }
}

void ServingQueue::Post(absl::AnyInvocable<void()> work) { new Posted(this, std::move(work)); }

void ServingQueue::Run(bool rests) {
  deferred.queue = queue_.get();
  if (rests && !Rest()) return;
  Load load;
  void* tag = nullptr;
  bool ok = false;
  for (;;) {
    const bool defers = !deferred.work.empty();
    const grpc::CompletionQueue::NextStatus next = queue_->AsyncNext(&tag, &ok, Deadline(rests));
    if (next == grpc::CompletionQueue::SHUTDOWN) break;
    Load::Verdict verdict = Load::Verdict::kNone;
    if (next == grpc::CompletionQueue::GOT_EVENT) {
      auto* const event = static_cast<QueueEvent*>(tag);
      const void* const call = event->call();
      event->OnEvent(ok);
      verdict = load.OnEvent(call);
    } else if (!defers) {
      verdict = Load::Verdict::kIdle;
    }
    if (!deferred.work.empty() &&
        (next == grpc::CompletionQueue::TIMEOUT || ++deferred.events > kEventsBeforeDeferredMax)) {
      RunDeferred();
    }
    if (verdict == Load::Verdict::kBusy) WakeThread();
    if (rests && verdict == Load::Verdict::kIdle) {
      RunDeferred();
      if (!Rest()) return;
      load = Load();
    }
  }
}

bool ServingQueue::Rest() {
  const auto is_over = [this] {
    mutex_.AssertReaderHeld();
    return wakes_ > 0 || ended_;
  };
  absl::MutexLock lock(&mutex_);
  if (threads_max_ - resting_.load(std::memory_order_relaxed) - long_works_ <= 1) return !ended_;
  resting_.fetch_add(1, std::memory_order_relaxed);
  mutex_.Await(absl::Condition(&is_over));
  resting_.fetch_sub(1, std::memory_order_relaxed);
  if (ended_) return false;
  --wakes_;
  return true;
}

void ServingQueue::WakeThread() {
  if (resting_.load(std::memory_order_relaxed) == 0) return;
  absl::MutexLock lock(&mutex_);
  wakes_ = std::min(wakes_ + 1, resting_.load(std::memory_order_relaxed));
}

}  // namespace normd
