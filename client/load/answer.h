#ifndef NORMD_CLIENT_LOAD_ANSWER_H_
#define NORMD_CLIENT_LOAD_ANSWER_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/byte_buffer.h"

namespace normd::load {

// The error that an answer carries as a google.rpc.Status in its top-level field `error_field`, or
// OK. Walks over the fields where they lie, across slices; payloads are skipped, not read. `answer`
// is as before. Errors of its own: kInternal when the bytes are no message, or the error says OK.
absl::Status AnswerError(grpc::ByteBuffer& answer, int error_field);

// The seconds of processor time in the value of a `server-timing`, as NormalizationService ends its
// streams with; nothing in another.
std::optional<double> CpuSeconds(absl::string_view server_timing);

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_ANSWER_H_
