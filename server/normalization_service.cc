#include "server/normalization_service.h"

namespace normd {

NormalizationService::NormalizationService(const Handlers& handlers,
                                           const StreamLimits& stream_limits, CallSet* streams,
                                           UnaryGate* gate, MemoryBudget* memory)
    : MessageService(/*unary_calls_awaited=*/8) {
  using Async = AsyncNormalizationService;
  const auto unary = [&](MessageHandler* handler) {
    return UnaryMethod{.handler = handler, .memory = memory, .gate = gate};
  };
  const auto stream = [&](MessageHandler* handler) {
    return StreamMethod{
        .handler = handler, .limits = stream_limits, .streams = streams, .memory = memory};
  };
  Add(&Async::RequestTrain, unary(handlers.train));
  Add(&Async::RequestNormalize, unary(handlers.normalize));
  Add(&Async::RequestBackward, unary(handlers.backward));
  Add(&Async::RequestApplyGradients, unary(handlers.apply_gradients));
  Add(&Async::RequestStreamTrain, stream(handlers.train));
  Add(&Async::RequestStreamNormalize, stream(handlers.normalize));
  Add(&Async::RequestStreamBackward, stream(handlers.backward));
}

}  // namespace normd
