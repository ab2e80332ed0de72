#ifndef NORMD_CLIENT_CLI_STATE_REPORT_H_
#define NORMD_CLIENT_CLI_STATE_REPORT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/console.h"
#include "client/cpp/client.h"

namespace normd::cli {

// Prints what became of the state: a line with `verb`, or the state as JSON. Prints an error when
// there is one. Returns the exit code.
ExitCode ReportState(const GlobalOptions& global, const absl::StatusOr<client::State>& state,
                     absl::string_view verb);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_STATE_REPORT_H_
