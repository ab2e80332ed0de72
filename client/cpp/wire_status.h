#ifndef NORMD_CLIENT_CPP_WIRE_STATUS_H_
#define NORMD_CLIENT_CPP_WIRE_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"
#include "normd/v1/errors.pb.h"

// Errors of the wire as absl::Status: the details become payloads, keyed by their type URL.
namespace normd::client {

// The status of a call, with the details of its trailer.
absl::Status FromGrpc(const grpc::Status& status);

// An error that came in place.
absl::Status FromWire(const google::rpc::Status& status);

// An error found here before the server could find it.
absl::Status MakeLocalError(absl::StatusCode code, v1::ErrorReason reason,
                            absl::string_view message);

// `status` with another code and message; the payloads stay.
absl::Status WithMessage(const absl::Status& status, absl::StatusCode code,
                         absl::string_view message);

// Whether a stream that ended so is worth opening again: the server is away, its store is full, or
// the transport failed (then the error carries no reason).
bool IsTransient(const absl::Status& status);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_WIRE_STATUS_H_
