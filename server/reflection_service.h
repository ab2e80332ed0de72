#ifndef NORMD_SERVER_REFLECTION_SERVICE_H_
#define NORMD_SERVER_REFLECTION_SERVICE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/memory_budget.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/call_set.h"
#include "server/message_handler.h"
#include "server/message_service.h"

namespace normd {

// Answers the questions of server reflection: which services there are, and the .proto files of
// all that is compiled in. Thread-safe.
class ReflectionHandler final : public MessageHandler {
 public:
  // `services` are the full names that are listed.
  explicit ReflectionHandler(std::vector<std::string> services) : services_(std::move(services)) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;

 private:
  const std::vector<std::string> services_;
};

// The generated services, on raw bytes. The older name is the one that most tools ask for first.
using AsyncReflectionService =
    grpc::reflection::v1::ServerReflection::WithRawMethod_ServerReflectionInfo<
        grpc::reflection::v1::ServerReflection::Service>;
using AsyncReflectionAlphaService =
    grpc::reflection::v1alpha::ServerReflection::WithRawMethod_ServerReflectionInfo<
        grpc::reflection::v1alpha::ServerReflection::Service>;

// The reflection service of either name.
template <typename AsyncService>
class ReflectionService final : public MessageService<AsyncService> {
 public:
  // What is passed in outlives the service.
  ReflectionService(ReflectionHandler* handler, CallSet* streams, MemoryBudget* memory)
      : MessageService<AsyncService>(/*unary_calls_awaited=*/0) {
    this->Add(&AsyncService::RequestServerReflectionInfo,
              StreamMethod{.handler = handler, .streams = streams, .memory = memory});
  }
};

}  // namespace normd

#endif  // NORMD_SERVER_REFLECTION_SERVICE_H_
