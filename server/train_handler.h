#ifndef NORMD_SERVER_TRAIN_HANDLER_H_
#define NORMD_SERVER_TRAIN_HANDLER_H_

#include <memory>

#include "server/data_handler.h"
#include "server/message_handler.h"

namespace normd {

// The work behind Train and StreamTrain: computes the moments of a batch and its output on the
// thread that brings it (large batches on those of the runner too), and submits the fold.
// Thread-safe.
class TrainHandler final : public DataHandler {
 public:
  explicit TrainHandler(const DataContext& context) : DataHandler(context, StateUse::kUpdate) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;
};

}  // namespace normd

#endif  // NORMD_SERVER_TRAIN_HANDLER_H_
