#ifndef NORMD_CLIENT_CPP_ERROR_H_
#define NORMD_CLIENT_CPP_ERROR_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace normd::client {

// Every error of this library is an absl::Status with the server's code and message. These read
// what else the server said.

// The machine-readable reason, the name of a normd.v1.ErrorReason: "STATE_NOT_FOUND". Empty when
// there is none, as when the error is the connection's.
std::string ErrorReason(const absl::Status& status);

// The names and values that go with the reason, as "index" with NON_FINITE_VALUE. May be empty.
std::map<std::string, std::string> ErrorMetadata(const absl::Status& status);

// How long the server asks to wait before the next try; nothing when it does not say.
std::optional<absl::Duration> ErrorRetryDelay(const absl::Status& status);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_ERROR_H_
