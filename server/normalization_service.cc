#include "server/normalization_service.h"

namespace normd {

grpc::ServerUnaryReactor* NormalizationService::Train(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return StartMessageCall(handlers_.train, context, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* NormalizationService::StreamTrain(
    grpc::CallbackServerContext* /*context*/) {
  return StartMessageStream(handlers_.train, stream_limits_, streams_);
}

grpc::ServerUnaryReactor* NormalizationService::Normalize(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return StartMessageCall(handlers_.normalize, context, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* NormalizationService::StreamNormalize(
    grpc::CallbackServerContext* /*context*/) {
  return StartMessageStream(handlers_.normalize, stream_limits_, streams_);
}

grpc::ServerUnaryReactor* NormalizationService::Backward(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return StartMessageCall(handlers_.backward, context, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* NormalizationService::StreamBackward(
    grpc::CallbackServerContext* /*context*/) {
  return StartMessageStream(handlers_.backward, stream_limits_, streams_);
}

grpc::ServerUnaryReactor* NormalizationService::ApplyGradients(grpc::CallbackServerContext* context,
                                                               const grpc::ByteBuffer* request,
                                                               grpc::ByteBuffer* response) {
  return StartMessageCall(handlers_.apply_gradients, context, request, response);
}

}  // namespace normd
