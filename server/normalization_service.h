#ifndef NORMD_SERVER_NORMALIZATION_SERVICE_H_
#define NORMD_SERVER_NORMALIZATION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <vector>

#include "normd/v1/normalization_service.grpc.pb.h"
#include "server/call_set.h"
#include "server/completion_queues.h"
#include "server/message_handler.h"
#include "server/message_method.h"

namespace normd {

// The data methods: each takes raw bytes from completion queues and goes to a MessageHandler.
class NormalizationService {
 public:
  // The work behind the methods.
  struct Handlers {
    MessageHandler* train = nullptr;
    MessageHandler* normalize = nullptr;
    MessageHandler* backward = nullptr;
    MessageHandler* apply_gradients = nullptr;
  };

  // Everything passed in outlives the service.
  NormalizationService(const Handlers& handlers, const StreamLimits& stream_limits,
                       CallSet* streams, MemoryBudget* memory);

  NormalizationService(const NormalizationService&) = delete;
  NormalizationService& operator=(const NormalizationService&) = delete;

  // For grpc::ServerBuilder::RegisterService.
  grpc::Service* service() { return &service_; }

  // Serves calls on `queues`, whose server has started, until that is shut down. Called once. The
  // service outlives the queues.
  void Serve(CompletionQueues* queues);

 private:
  using AsyncService = v1::NormalizationService::WithRawMethod_Train<
      v1::NormalizationService::WithRawMethod_StreamTrain<
          v1::NormalizationService::WithRawMethod_Normalize<
              v1::NormalizationService::WithRawMethod_StreamNormalize<
                  v1::NormalizationService::WithRawMethod_Backward<
                      v1::NormalizationService::WithRawMethod_StreamBackward<
                          v1::NormalizationService::WithRawMethod_ApplyGradients<
                              v1::NormalizationService::Service>>>>>>>;

  AsyncService service_;
  std::vector<UnaryMethod> unary_methods_;
  std::vector<StreamMethod> stream_methods_;
};

}  // namespace normd

#endif  // NORMD_SERVER_NORMALIZATION_SERVICE_H_
