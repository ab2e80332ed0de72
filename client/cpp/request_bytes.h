#ifndef NORMD_CLIENT_CPP_REQUEST_BYTES_H_
#define NORMD_CLIENT_CPP_REQUEST_BYTES_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "client/cpp/batch.h"
#include "client/cpp/moments.h"
#include "client/cpp/result.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

// The requests of streams as bytes, in two parts that make a message when they stand one after the
// other: a message is sent again without being encoded again. Values that a batch owns are sent
// from where they lie; borrowed ones are copied once, outside of any lock. Copies of a part share
// its bytes.
namespace normd::client {

// What a TrainRequest asks for beside its batch.
struct TrainFlags {
  bool return_output = false;
  bool return_moments = false;
  bool calibrate = false;
  absl::string_view calibration_id = {};
};

// The batch of a TrainRequest, with what is asked for.
grpc::ByteBuffer EncodeTrainBatch(const Batch& batch, const TrainFlags& flags);
grpc::ByteBuffer EncodeTrainBatch(const Moments& moments, const TrainFlags& flags);

// The rest of a TrainRequest: state, producer_id, sequence, durability.
grpc::Slice EncodeTrainHead(absl::string_view state, absl::string_view producer_id,
                            int64_t sequence, Durability durability);

// The input of a NormalizeRequest, and the rest: state, sequence.
grpc::ByteBuffer EncodeNormalizeBatch(const Batch& batch);
grpc::Slice EncodeNormalizeHead(absl::string_view state, int64_t sequence);

// What a BackwardRequest asks for beside its tensors.
struct BackwardFlags {
  BackwardMode mode = BackwardMode::kTrain;
  std::optional<Moments> moments;
  bool omit_grad_input = false;
  bool apply = false;
};

// The tensors of a BackwardRequest, with what is asked for, and the rest: state, producer_id,
// sequence, durability.
grpc::ByteBuffer EncodeBackwardBatch(const Batch& input, const Batch& grad_output,
                                     const BackwardFlags& flags);
grpc::Slice EncodeBackwardHead(absl::string_view state, absl::string_view producer_id,
                               int64_t sequence, Durability durability);

// The message of both parts.
grpc::ByteBuffer JoinMessage(const grpc::Slice& head, const grpc::ByteBuffer& batch);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_REQUEST_BYTES_H_
