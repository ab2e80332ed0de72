#include "server/message_method.h"

#include <cstdint>
#include <optional>
#include <utility>

namespace normd {
namespace {

// From here on a request takes its thread some ten milliseconds, for which nobody else is to wait.
// Below, a second thread would cost a stream that is alone more than it gives others: it takes the
// values to another core (normalize of 4 Mi floats: 0.7 of the echo with it, 0.95 without).
constexpr int64_t kLongBytes = 32 * kMiB;

}  // namespace

void HandleMessage(MessageHandler* handler, grpc::ByteBuffer* request,
                   std::shared_ptr<MessageCall> call, ServingQueue* queue) {
  std::optional<ServingQueue::LongWork> long_work;
  if (static_cast<int64_t>(request->Length()) >= kLongBytes) long_work.emplace(queue);
  handler->Handle(request, std::move(call));
}

}  // namespace normd
