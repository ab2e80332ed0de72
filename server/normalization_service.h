#ifndef NORMD_SERVER_NORMALIZATION_SERVICE_H_
#define NORMD_SERVER_NORMALIZATION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "normd/v1/normalization_service.grpc.pb.h"
#include "server/call_set.h"
#include "server/message_handler.h"
#include "server/message_stream.h"

namespace normd {

// The data methods. Those that carry tensors take raw bytes and go to a MessageHandler; what is not
// built yet answers METHOD_NOT_IMPLEMENTED.
class NormalizationService final
    : public v1::NormalizationService::WithRawCallbackMethod_Train<
          v1::NormalizationService::WithRawCallbackMethod_StreamTrain<
              v1::NormalizationService::WithRawCallbackMethod_Normalize<
                  v1::NormalizationService::WithRawCallbackMethod_StreamNormalize<
                      v1::NormalizationService::WithCallbackMethod_Backward<
                          v1::NormalizationService::WithCallbackMethod_StreamBackward<
                              v1::NormalizationService::WithCallbackMethod_ApplyGradients<
                                  v1::NormalizationService::Service>>>>>>> {
 public:
  // Everything passed in outlives the service.
  NormalizationService(MessageHandler* train, MessageHandler* normalize,
                       const StreamLimits& stream_limits, CallSet* streams)
      : train_(train), normalize_(normalize), stream_limits_(stream_limits), streams_(streams) {}

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
                                     const v1::BackwardRequest* request,
                                     v1::BackwardResponse* response) override;
  grpc::ServerBidiReactor<v1::BackwardRequest, v1::BackwardResponse>* StreamBackward(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ApplyGradients(grpc::CallbackServerContext* context,
                                           const v1::ApplyGradientsRequest* request,
                                           v1::ApplyGradientsResponse* response) override;

 private:
  MessageHandler* const train_;
  MessageHandler* const normalize_;
  const StreamLimits stream_limits_;
  CallSet* const streams_;
};

}  // namespace normd

#endif  // NORMD_SERVER_NORMALIZATION_SERVICE_H_
