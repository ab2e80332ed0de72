#include "client/load/answer.h"

#include "client/cpp/wire_status.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/proto_buffer_reader.h"

namespace normd::load {
namespace {

using ::google::protobuf::internal::WireFormatLite;

absl::Status NotAMessage() { return absl::InternalError("an answer is not a protobuf message"); }

}  // namespace

absl::Status AnswerError(grpc::ByteBuffer& answer, int error_field) {
  grpc::ProtoBufferReader bytes(&answer);
  google::protobuf::io::CodedInputStream fields(&bytes);
  const uint32_t error_tag =
      WireFormatLite::MakeTag(error_field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  while (const uint32_t tag = fields.ReadTag()) {
    if (tag != error_tag) {
      if (!WireFormatLite::SkipField(&fields, tag)) return NotAMessage();
      continue;
    }
    google::rpc::Status error;
    if (!WireFormatLite::ReadMessage(&fields, &error)) return NotAMessage();
    if (error.code() == 0) return absl::InternalError("an answer has an error that says OK");
    return client::FromWire(error);
  }
  return fields.ConsumedEntireMessage() ? absl::OkStatus() : NotAMessage();
}

}  // namespace normd::load
