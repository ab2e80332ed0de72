#ifndef NORMD_SERVER_NORMALIZATION_SERVICE_H_
#define NORMD_SERVER_NORMALIZATION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "normd/v1/normalization_service.grpc.pb.h"
#include "server/call_set.h"
#include "server/message_handler.h"
#include "server/message_stream.h"

namespace normd {

// The data methods: each takes raw bytes and goes to a MessageHandler.
class NormalizationService final
    : public v1::NormalizationService::WithRawCallbackMethod_Train<
          v1::NormalizationService::WithRawCallbackMethod_StreamTrain<
              v1::NormalizationService::WithRawCallbackMethod_Normalize<
                  v1::NormalizationService::WithRawCallbackMethod_StreamNormalize<
                      v1::NormalizationService::WithRawCallbackMethod_Backward<
                          v1::NormalizationService::WithRawCallbackMethod_StreamBackward<
                              v1::NormalizationService::WithRawCallbackMethod_ApplyGradients<
                                  v1::NormalizationService::Service>>>>>>> {
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
                       CallSet* streams)
      : handlers_(handlers), stream_limits_(stream_limits), streams_(streams) {}

  grpc::ServerUnaryReactor* Train(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamTrain(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Normalize(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamNormalize(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Backward(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamBackward(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ApplyGradients(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) override;

 private:
  const Handlers handlers_;
  const StreamLimits stream_limits_;
  CallSet* const streams_;
};

}  // namespace normd

#endif  // NORMD_SERVER_NORMALIZATION_SERVICE_H_
