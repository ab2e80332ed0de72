#ifndef NORMD_SERVER_NORMALIZE_HANDLER_H_
#define NORMD_SERVER_NORMALIZE_HANDLER_H_

#include <cstdint>
#include <memory>

#include "core/registry/state_registry.h"
#include "server/message_handler.h"

namespace normd {

// The work behind Normalize and StreamNormalize: eval mode from the published value of a state.
// Thread-safe.
class NormalizeHandler final : public MessageHandler {
 public:
  // `registry` outlives the handler and every call.
  NormalizeHandler(StateRegistry* registry, int64_t message_bytes_max)
      : registry_(registry), message_bytes_max_(message_bytes_max) {}

  void Handle(const grpc::ByteBuffer& request, std::shared_ptr<MessageCall> call) override;

 private:
  StateRegistry* const registry_;
  const int64_t message_bytes_max_;
};

}  // namespace normd

#endif  // NORMD_SERVER_NORMALIZE_HANDLER_H_
