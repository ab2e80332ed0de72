#include "tests/testing/health_watch.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>

namespace normd::testing {
namespace {

// By hand, so that our health.proto is held against the protocol; both messages have one field.
// HealthCheckRequest: string service = 1.
grpc::ByteBuffer EncodeRequest(const std::string& service) {
  std::string bytes = {0x0A, static_cast<char>(service.size())};
  const grpc::Slice slice(bytes + service);
  return {&slice, 1};
}

// HealthCheckResponse: ServingStatus status = 1; absent when it is 0.
HealthStatus DecodeResponse(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok() || slice.size() < 2) return HealthStatus::kUnknown;
  return static_cast<HealthStatus>(slice.begin()[1]);
}

}  // namespace

class HealthWatch::Impl {
 public:
  Impl(const std::string& address, const std::string& service)
      : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    context_.set_wait_for_ready(true);
    call_ = stub_.PrepareCall(&context_, "/grpc.health.v1.Health/Watch", &queue_);
    call_->StartCall(this);
    if (!Await()) return;
    call_->WriteLast(EncodeRequest(service), grpc::WriteOptions(), this);
    Await();
  }

  ~Impl() {
    context_.TryCancel();
    grpc::Status status;
    call_->Finish(&status, this);
    Await();
    queue_.Shutdown();
    while (Await()) {
    }
  }

  std::optional<HealthStatus> Next() {
    grpc::ByteBuffer response;
    call_->Read(&response, this);
    if (!Await()) return std::nullopt;
    return DecodeResponse(response);
  }

 private:
  // The one outstanding operation has ended; whether it succeeded.
  bool Await() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

HealthWatch::HealthWatch(const std::string& address, const std::string& service)
    : impl_(std::make_unique<Impl>(address, service)) {}

HealthWatch::~HealthWatch() = default;

std::optional<HealthStatus> HealthWatch::Next() { return impl_->Next(); }

}  // namespace normd::testing
