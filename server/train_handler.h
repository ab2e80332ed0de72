#ifndef NORMD_SERVER_TRAIN_HANDLER_H_
#define NORMD_SERVER_TRAIN_HANDLER_H_

#include <cstdint>
#include <memory>

#include "core/registry/state_registry.h"
#include "core/state/producer_table.h"
#include "server/message_handler.h"

namespace normd {

// The work behind Train and StreamTrain: parses a TrainRequest, computes the moments of its batch
// and its output on the thread that brings it, and submits the fold. Thread-safe.
class TrainHandler final : public MessageHandler {
 public:
  // `registry` outlives the handler and every call.
  TrainHandler(StateRegistry* registry, const ProducerLimits& producer_limits,
               int64_t message_bytes_max)
      : registry_(registry),
        producer_limits_(producer_limits),
        message_bytes_max_(message_bytes_max) {}

  void Handle(const grpc::ByteBuffer& request, std::shared_ptr<MessageCall> call) override;

 private:
  StateRegistry* const registry_;
  const ProducerLimits producer_limits_;
  const int64_t message_bytes_max_;
};

}  // namespace normd

#endif  // NORMD_SERVER_TRAIN_HANDLER_H_
