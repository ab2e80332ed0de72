#ifndef NORMD_CLIENT_LOAD_REQUEST_SOURCE_H_
#define NORMD_CLIENT_LOAD_REQUEST_SOURCE_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/batch.h"
#include "client/cpp/result.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

namespace normd::load {

// What every message of a load is.
enum class Mode {
  kTrain,         // a StreamTrain request with values
  kTrainMoments,  // a StreamTrain request with the moments of the values
  kNormalize,     // a StreamNormalize request
};

struct RequestOptions {
  Mode mode = Mode::kTrain;
  std::vector<std::string> states;  // each message is for one of them; at least one
  client::Batch batch;              // the values of every message
  bool return_output = false;       // kTrain
  client::Durability durability = client::Durability::kDurable;  // kTrain, kTrainMoments
  // kTrain, kTrainMoments: what the ids of the streams' producers begin with; not used before.
  std::string producer_prefix;
  uint64_t seed = 0;  // of the order of the states
};

// The messages of all streams of a load. Tensor and moments are encoded once and shared by all
// messages, and so are the names. Thread-safe.
class RequestSource {
 public:
  // The messages of one stream, for states at random. Thread-compatible.
  class Stream {
   public:
    grpc::ByteBuffer Next();

   private:
    friend class RequestSource;
    Stream(const RequestSource* source, int64_t index);

    const RequestSource* source_;
    std::string producer_id_;
    int64_t sequence_ = 0;
    std::mt19937_64 random_;
    std::uniform_int_distribution<size_t> pick_;
  };

  // Errors: those of client::ComputeMoments.
  static absl::StatusOr<RequestSource> Make(RequestOptions options);

  // The method of the messages, as "/normd.v1.NormalizationService/StreamTrain".
  const char* method() const;
  // The number of the field that is the error in an answer.
  int error_field() const;

  // The messages of stream `index`. The source must outlive them.
  Stream OpenStream(int64_t index) const { return Stream(this, index); }

 private:
  RequestSource(RequestOptions options, const grpc::ByteBuffer& batch);

  RequestOptions options_;
  grpc::ByteBuffer batch_;          // of every message
  std::vector<grpc::Slice> heads_;  // kNormalize: a state's
};

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_REQUEST_SOURCE_H_
