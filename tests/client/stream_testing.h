#ifndef NORMD_TESTS_CLIENT_STREAM_TESTING_H_
#define NORMD_TESTS_CLIENT_STREAM_TESTING_H_

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"

namespace normd::client {

// A client that does not wait for its server.
inline std::unique_ptr<Client> ConnectTo(const std::string& address) {
  ClientOptions options;
  options.address = address;
  options.connect_timeout = absl::ZeroDuration();
  return *Client::Connect(options);
}

// Tries again at once, and for long.
inline RetryOptions FastRetry() {
  RetryOptions retry;
  retry.backoff_initial = absl::Milliseconds(1);
  retry.backoff_max = absl::Milliseconds(5);
  return retry;
}

// Moments that a fake server knows again by `count`.
inline Moments MomentsOf(int64_t count) { return {count, {0.5}, {2.0}}; }

// 1, 2, ..., n.
inline std::vector<int64_t> UpTo(int64_t n) {
  std::vector<int64_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), int64_t{1});
  return numbers;
}

// Collects results. Thread-safe.
template <typename Result>
class Results {
 public:
  void Add(Result result) {
    absl::MutexLock lock(&mutex_);
    results_.push_back(std::move(result));
  }

  std::vector<Result> All() const {
    absl::MutexLock lock(&mutex_);
    return results_;
  }

  // The sequences of the results of `state`, in their order.
  std::vector<int64_t> Sequences(const std::string& state) const {
    absl::MutexLock lock(&mutex_);
    std::vector<int64_t> sequences;
    for (const Result& result : results_) {
      if (result.state == state) sequences.push_back(result.sequence);
    }
    return sequences;
  }

  // Waits until there are `count` results; false when there are not in a minute.
  bool WaitFor(size_t count) const {
    absl::MutexLock lock(&mutex_);
    const auto there = [this, count]()
                           ABSL_NO_THREAD_SAFETY_ANALYSIS { return results_.size() >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Minutes(1));
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<Result> results_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd::client

#endif  // NORMD_TESTS_CLIENT_STREAM_TESTING_H_
