#include "server/message_method.h"

#include <cstdint>
#include <optional>
#include <utility>

namespace normd {
namespace {

// From here on a request keeps its thread long enough for another to read and write meanwhile.
constexpr int64_t kLongBytes = 256 * kKiB;

}  // namespace

void HandleMessage(MessageHandler* handler, grpc::ByteBuffer* request,
                   std::shared_ptr<MessageCall> call, ServingQueue* queue) {
  std::optional<ServingQueue::LongWork> long_work;
  if (static_cast<int64_t>(request->Length()) >= kLongBytes) long_work.emplace(queue);
  handler->Handle(request, std::move(call));
}

}  // namespace normd
