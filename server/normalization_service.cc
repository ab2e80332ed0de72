#include "server/normalization_service.h"

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "server/grpc_status.h"

namespace normd {
namespace {

grpc::Status NotImplemented(absl::string_view method) {
  return ToGrpcStatus(
      MakeError(Reason::kMethodNotImplemented,
                absl::StrCat("method ", method,
                             " is not implemented, expected Train, StreamTrain, Normalize or "
                             "StreamNormalize"),
                {{"method", method}}));
}

// A stream that ends at once.
class RefusedStream final
    : public grpc::ServerBidiReactor<v1::BackwardRequest, v1::BackwardResponse> {
 public:
  explicit RefusedStream(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

grpc::ServerUnaryReactor* Refused(grpc::CallbackServerContext* context, absl::string_view method) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(NotImplemented(method));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* NormalizationService::Train(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return StartMessageCall(train_, context, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* NormalizationService::StreamTrain(
    grpc::CallbackServerContext* /*context*/) {
  return StartMessageStream(train_, stream_limits_, streams_);
}

grpc::ServerUnaryReactor* NormalizationService::Normalize(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return StartMessageCall(normalize_, context, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* NormalizationService::StreamNormalize(
    grpc::CallbackServerContext* /*context*/) {
  return StartMessageStream(normalize_, stream_limits_, streams_);
}

grpc::ServerUnaryReactor* NormalizationService::Backward(grpc::CallbackServerContext* context,
                                                         const v1::BackwardRequest* /*request*/,
                                                         v1::BackwardResponse* /*response*/) {
  return Refused(context, "Backward");
}

grpc::ServerBidiReactor<v1::BackwardRequest, v1::BackwardResponse>*
NormalizationService::StreamBackward(grpc::CallbackServerContext* /*context*/) {
  return new RefusedStream(NotImplemented("StreamBackward"));
}

grpc::ServerUnaryReactor* NormalizationService::ApplyGradients(
    grpc::CallbackServerContext* context, const v1::ApplyGradientsRequest* /*request*/,
    v1::ApplyGradientsResponse* /*response*/) {
  return Refused(context, "ApplyGradients");
}

}  // namespace normd
