#include "client/load/answer.h"

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "client/cpp/wire_status.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/proto_buffer_reader.h"

namespace normd::load {
namespace {

using ::google::protobuf::internal::WireFormatLite;

// Longer than any load.
constexpr double kMillisecondsMax = 1e12;

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

std::optional<double> CpuSeconds(absl::string_view server_timing) {
  double milliseconds = 0;
  if (!absl::ConsumePrefix(&server_timing, "cpu;dur=") ||
      !absl::SimpleAtod(server_timing, &milliseconds)) {
    return std::nullopt;
  }
  if (!(milliseconds >= 0 && milliseconds <= kMillisecondsMax)) return std::nullopt;
  return milliseconds / 1000;
}

}  // namespace normd::load
