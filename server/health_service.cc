#include "server/health_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "server/message_codec.h"

namespace normd {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

grpc::ByteBuffer Answer(HealthCheckResponse::ServingStatus status) {
  HealthCheckResponse response;
  response.set_status(status);
  return SerializeMessage(response);
}

}  // namespace

class HealthService::CheckHandler final : public MessageHandler {
 public:
  explicit CheckHandler(const HealthService* health) : health_(health) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override {
    HealthCheckRequest message;
    absl::Status status = ParseMessage(request, kStandardRequestBytesMax, message);
    const ServingStatus serving = health_->StatusOf(message.service());
    if (status.ok() && serving == HealthCheckResponse::SERVICE_UNKNOWN) {
      status = MakeError(Reason::kServiceNotFound,
                         absl::StrCat("the server has no service '", message.service(), "'"),
                         {{"field", "service"}});
    }
    call->Done(status, status.ok() ? Answer(serving) : grpc::ByteBuffer());
  }

 private:
  const HealthService* const health_;
};

class HealthService::Source final : public MessageSource {
 public:
  Source(HealthService* health, std::string service, std::function<void()> wake)
      : health_(health), service_(std::move(service)) {
    absl::MutexLock lock(&health_->mutex_);
    health_->wakes_[this] = std::move(wake);
  }

  ~Source() override {
    absl::MutexLock lock(&health_->mutex_);
    health_->wakes_.erase(this);
  }

  bool Next(grpc::ByteBuffer* message) override {
    const ServingStatus status = health_->StatusOf(service_);
    if (told_.exchange(status) == status) return false;
    *message = Answer(status);
    return true;
  }

 private:
  HealthService* const health_;
  const std::string service_;
  std::atomic<ServingStatus> told_ = HealthCheckResponse::UNKNOWN;
};

class HealthService::WatchHandler final : public SubscriptionHandler {
 public:
  explicit WatchHandler(HealthService* health) : health_(health) {}

  absl::StatusOr<std::unique_ptr<MessageSource>> Open(grpc::ByteBuffer* request,
                                                      std::function<void()> wake) override {
    HealthCheckRequest message;
    NORMD_RETURN_IF_ERROR(ParseMessage(request, kStandardRequestBytesMax, message));
    return std::make_unique<Source>(health_, message.service(), std::move(wake));
  }

 private:
  HealthService* const health_;
};

HealthService::HealthService(const std::vector<std::string>& services, CallSet* watches,
                             MemoryBudget* memory)
    : MessageService(/*unary_calls_awaited=*/1),
      services_(services.begin(), services.end()),
      check_(std::make_unique<CheckHandler>(this)),
      watch_(std::make_unique<WatchHandler>(this)) {
  services_.insert("");
  Add(&AsyncHealthService::RequestCheck,
      UnaryMethod{.handler = check_.get(),
                  .memory = memory,
                  .call_bytes = memory->share(MemoryUse::kCalls) / kStandardCallsMax});
  Add(&AsyncHealthService::RequestWatch,
      SubscriptionMethod{.handler = watch_.get(), .calls = watches});
}

void HealthService::StopServing() {
  serving_ = false;
  absl::MutexLock lock(&mutex_);
  for (const auto& [source, wake] : wakes_) wake();
}

HealthService::ServingStatus HealthService::StatusOf(const std::string& service) const {
  if (!services_.contains(service)) return HealthCheckResponse::SERVICE_UNKNOWN;
  return serving_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace normd
