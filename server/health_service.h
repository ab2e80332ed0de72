#ifndef NORMD_SERVER_HEALTH_SERVICE_H_
#define NORMD_SERVER_HEALTH_SERVICE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "core/base/memory_budget.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/call_set.h"
#include "server/message_service.h"

namespace normd {

// The generated service, on raw bytes.
using AsyncHealthService = grpc::health::v1::Health::WithRawMethod_Check<
    grpc::health::v1::Health::WithRawMethod_Watch<grpc::health::v1::Health::Service>>;

// grpc.health.v1.Health: the server as a whole and each of its services serve, until they all no
// longer do. Thread-safe.
class HealthService final : public MessageService<AsyncHealthService> {
 public:
  // Knows `services` and "", the server as a whole. At most kStandardCallsMax Checks, as their
  // share of `memory` is counted, wait to be read. `watches` and `memory` outlive the service.
  HealthService(const std::vector<std::string>& services, CallSet* watches, MemoryBudget* memory);

  // Tells all who watch. Called once.
  void StopServing();

 private:
  using ServingStatus = grpc::health::v1::HealthCheckResponse::ServingStatus;

  class CheckHandler;
  class WatchHandler;
  class Source;

  // SERVICE_UNKNOWN for one that is not known.
  ServingStatus StatusOf(const std::string& service) const;

  // Constant after construction.
  absl::flat_hash_set<std::string> services_;
  std::unique_ptr<MessageHandler> check_;
  std::unique_ptr<SubscriptionHandler> watch_;

  std::atomic<bool> serving_ = true;

  // Held while sources are woken, which then ask StatusOf.
  absl::Mutex mutex_;
  absl::flat_hash_map<const Source*, std::function<void()>> wakes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd

#endif  // NORMD_SERVER_HEALTH_SERVICE_H_
