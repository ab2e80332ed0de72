#ifndef NORMD_TESTS_TESTING_HEALTH_WATCH_H_
#define NORMD_TESTS_TESTING_HEALTH_WATCH_H_

#include <memory>
#include <optional>
#include <string>

namespace normd::testing {

// grpc.health.v1.HealthCheckResponse.ServingStatus.
enum class HealthStatus { kUnknown = 0, kServing = 1, kNotServing = 2, kServiceUnknown = 3 };

// A grpc.health.v1 Watch on one service of a server ("": the whole server). Thread-compatible.
class HealthWatch {
 public:
  HealthWatch(const std::string& address, const std::string& service);
  ~HealthWatch();

  HealthWatch(const HealthWatch&) = delete;
  HealthWatch& operator=(const HealthWatch&) = delete;

  // Waits for the next status that the server tells; nothing when the call has ended, or after a
  // minute since the watch began.
  std::optional<HealthStatus> Next();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_TESTING_HEALTH_WATCH_H_
