#ifndef NORMD_CLIENT_CLI_EXIT_CODE_H_
#define NORMD_CLIENT_CLI_EXIT_CODE_H_

#include <string>

#include "absl/status/status.h"

namespace normd::cli {

// What normctl ends with. Scripts rely on the numbers: they never change.
enum class ExitCode {
  kOk = 0,
  kError = 1,
  kUsage = 2,
  kNotFound = 3,
  kAlreadyExists = 4,
  kRefused = 5,
  kUnavailable = 6,
  kInput = 7,
};

// The code for an error of the client library.
ExitCode ExitCodeOf(const absl::Status& status);

// The lines of --help that explain the codes.
std::string ExitCodeHelp();

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_EXIT_CODE_H_
