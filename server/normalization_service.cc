#include "server/normalization_service.h"

#include <cstddef>

namespace normd {
namespace {

// Unary calls that a queue can take up at once; more wait for their turn.
constexpr int kUnaryCallsAwaited = 8;

}  // namespace

NormalizationService::NormalizationService(const Handlers& handlers,
                                           const StreamLimits& stream_limits, CallSet* streams,
                                           MemoryBudget* memory) {
  // `request` is the generated service's Request<Method>.
  const auto add_unary = [&](auto request, MessageHandler* handler) {
    unary_methods_.push_back(
        {.request =
             [this, request](auto* context, auto* bytes, auto* writer, auto* queue, void* tag) {
               (service_.*request)(context, bytes, writer, queue, queue, tag);
             },
         .handler = handler,
         .memory = memory});
  };
  const auto add_stream = [&](auto request, MessageHandler* handler) {
    stream_methods_.push_back(
        {.request = [this, request](
                        auto* context, auto* stream, auto* queue,
                        void* tag) { (service_.*request)(context, stream, queue, queue, tag); },
         .handler = handler,
         .limits = stream_limits,
         .streams = streams,
         .memory = memory});
  };
  add_unary(&AsyncService::RequestTrain, handlers.train);
  add_unary(&AsyncService::RequestNormalize, handlers.normalize);
  add_unary(&AsyncService::RequestBackward, handlers.backward);
  add_unary(&AsyncService::RequestApplyGradients, handlers.apply_gradients);
  add_stream(&AsyncService::RequestStreamTrain, handlers.train);
  add_stream(&AsyncService::RequestStreamNormalize, handlers.normalize);
  add_stream(&AsyncService::RequestStreamBackward, handlers.backward);
}

void NormalizationService::Serve(CompletionQueues* queues) {
  for (size_t queue = 0; queue < queues->size(); ++queue) {
    for (const UnaryMethod& method : unary_methods_) {
      for (int i = 0; i < kUnaryCallsAwaited; ++i) ServeUnaryCalls(method, queues, queue);
    }
    for (const StreamMethod& method : stream_methods_) ServeStreams(method, queues, queue);
  }
  queues->Start();
}

}  // namespace normd
