#ifndef NORMD_CLIENT_CPP_REQUEST_BYTES_H_
#define NORMD_CLIENT_CPP_REQUEST_BYTES_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "client/cpp/batch.h"
#include "client/cpp/moments.h"
#include "client/cpp/result.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

// The requests of streams as bytes, in pieces that make a message when they stand one after the
// other: the values are copied once, outside of any lock, and a message is sent again without being
// encoded again. Slices share their bytes.
namespace normd::client {

// The batch of a TrainRequest, with what is asked for.
grpc::Slice EncodeTrainBatch(const Batch& batch, bool return_output, bool return_moments);
grpc::Slice EncodeTrainBatch(const Moments& moments, bool return_output, bool return_moments);

// The rest of a TrainRequest: state, producer_id, sequence, durability.
grpc::Slice EncodeTrainHead(absl::string_view state, absl::string_view producer_id,
                            int64_t sequence, Durability durability);

// The input of a NormalizeRequest, and the rest: state, sequence.
grpc::Slice EncodeNormalizeBatch(const Batch& batch);
grpc::Slice EncodeNormalizeHead(absl::string_view state, int64_t sequence);

// The message of both pieces.
grpc::ByteBuffer JoinMessage(const grpc::Slice& head, const grpc::Slice& batch);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_REQUEST_BYTES_H_
