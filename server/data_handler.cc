#include "server/data_handler.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/io/coded_stream.h"
#include "normd/v1/normalization_service.pb.h"

namespace normd {
namespace {

constexpr int kStateField = v1::NormalizeRequest::kStateFieldNumber;
static_assert(kStateField == v1::TrainRequest::kStateFieldNumber &&
              kStateField == v1::BackwardRequest::kStateFieldNumber &&
              kStateField == v1::ApplyGradientsRequest::kStateFieldNumber);
// Of a field with a length.
constexpr uint32_t kStateTag = kStateField << 3 | 2;

// The name of the state where it lies, in a request that begins with it as ours do; else empty.
absl::string_view StateName(grpc::ByteBuffer* request) {
  grpc::ProtoBufferReader reader(request);
  google::protobuf::io::CodedInputStream input(&reader);
  uint32_t length = 0;
  const void* name = nullptr;
  int rest = 0;
  if (input.ReadTag() != kStateTag || !input.ReadVarint32(&length) || length > kStateNameBytesMax ||
      !input.GetDirectBufferPointer(&name, &rest) || rest < static_cast<int>(length)) {
    return "";
  }
  return {static_cast<const char*>(name), length};
}

}  // namespace

void DataHandler::Prefetch(absl::Span<grpc::ByteBuffer* const> requests) {
  std::vector<absl::string_view> names;
  names.reserve(requests.size());
  for (grpc::ByteBuffer* const request : requests) {
    const absl::string_view name = StateName(request);
    if (!name.empty() && (names.empty() || name != names.back())) names.push_back(name);
  }
  // The first request for one alone does as much.
  if (names.size() > 1) context_.registry->PrefetchStates(names, use_);
}

}  // namespace normd
