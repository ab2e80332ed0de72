#ifndef NORMD_SERVER_NORMALIZE_HANDLER_H_
#define NORMD_SERVER_NORMALIZE_HANDLER_H_

#include <memory>

#include "server/data_handler.h"
#include "server/message_handler.h"

namespace normd {

// The work behind Normalize and StreamNormalize: eval mode from the published value of a state, on
// the thread that brings the batch. Thread-safe.
class NormalizeHandler final : public DataHandler {
 public:
  explicit NormalizeHandler(const DataContext& context) : DataHandler(context, StateUse::kRead) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;
};

}  // namespace normd

#endif  // NORMD_SERVER_NORMALIZE_HANDLER_H_
