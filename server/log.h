#ifndef NORMD_SERVER_LOG_H_
#define NORMD_SERVER_LOG_H_

#include <string>

#include "absl/strings/string_view.h"

namespace normd {

// Sends the log to standard error, one line an event: "time=... level=info event=started ...", at
// `level` (trace, debug, info, warning or error) and above; gRPC's own lines come with event=grpc,
// protobuf's with event=protobuf.
void InitializeLog(const std::string& level);

// `value` as it stands behind "key=": quoted and escaped when it is not one plain word.
std::string LogValue(absl::string_view value);

}  // namespace normd

#endif  // NORMD_SERVER_LOG_H_
