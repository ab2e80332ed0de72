#include "client/cli/exit_code.h"

#include "client/cpp/error.h"

namespace normd::cli {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kAlreadyExists:
      return ExitCode::kAlreadyExists;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return client::ErrorReason(status) == "MESSAGE_TOO_LARGE" ? ExitCode::kRefused
                                                                : ExitCode::kError;
    default:
      return ExitCode::kError;
  }
}

std::string ExitCodeHelp() {
  return R"(Exit codes:
  0  done
  1  an error that none of the others names
  2  wrong usage
  3  the state is not there
  4  the state is there already
  5  refused: a wrong argument or batch, a frozen state, an etag that is not the state's
  6  the server cannot be reached, is shutting down, or did not answer in time
  7  a file or an input cannot be read, written or understood)";
}

}  // namespace normd::cli
