#ifndef NORMD_CLIENT_CLI_CONSOLE_H_
#define NORMD_CLIENT_CLI_CONSOLE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/exit_code.h"
#include "client/cpp/client.h"
#include "nlohmann/json.hpp"

// What every command shares: the options before the command, and how it speaks.
namespace normd::cli {

struct GlobalOptions {
  std::string address = "localhost:7117";
  double timeout_seconds = 10;
  bool json = false;
};

absl::StatusOr<std::unique_ptr<client::Client>> Connect(const GlobalOptions& options);

// Prints an error of the client library to standard error: one line, or one JSON object. Returns
// the exit code that goes with it.
ExitCode ServerError(const GlobalOptions& options, const absl::Status& status);

// The same for a file or an input.
ExitCode InputError(const GlobalOptions& options, const absl::Status& status);

// The same for options that do not go together.
ExitCode UsageError(const GlobalOptions& options, absl::string_view message);

// `status` with another message; code and reason stay.
absl::Status Reworded(const absl::Status& status, absl::string_view message);

// Prints a note that is no error to standard error; nothing with --json.
void PrintNote(const GlobalOptions& options, absl::string_view message);

// Prints to standard output and flushes; with a line end after JSON. False when standard output
// cannot be written: the error has then been printed.
bool PrintText(const GlobalOptions& options, absl::string_view text);
bool PrintJson(const GlobalOptions& options, const nlohmann::ordered_json& json);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_CONSOLE_H_
