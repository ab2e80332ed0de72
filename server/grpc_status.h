#ifndef NORMD_SERVER_GRPC_STATUS_H_
#define NORMD_SERVER_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace normd {

// The one place where errors become wire errors. Messages and metadata are cut to what fits the
// trailers of a call.

// `status` with one ErrorInfo (domain "normd"; reason INTERNAL_ERROR when it has none), a
// BadRequest when metadata names a field, and a RetryInfo on kUnavailable.
google::rpc::Status ToRpcStatus(const absl::Status& status);

// The same as the status of a call: code, message, and google.rpc.Status as details.
grpc::Status ToGrpcStatus(const absl::Status& status);

// Whether an error concerns the server and not the message, so that a stream ends with it: the
// client connects again and sends again what was not acknowledged.
bool EndsStream(const absl::Status& status);

}  // namespace normd

#endif  // NORMD_SERVER_GRPC_STATUS_H_
