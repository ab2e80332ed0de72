#include "client/cli/state_report.h"

#include "absl/strings/str_cat.h"
#include "client/cli/state_text.h"

namespace normd::cli {

ExitCode ReportState(const GlobalOptions& global, const absl::StatusOr<client::State>& state,
                     absl::string_view verb) {
  if (!state.ok()) return ServerError(global, state.status());
  const bool printed =
      global.json ? PrintJson(global, StateToJson(*state))
                  : PrintText(global, absl::StrCat(state->name, " ", verb, " (revision ",
                                                   state->revision, ", etag ", state->etag, ")\n"));
  return printed ? ExitCode::kOk : ExitCode::kInput;
}

}  // namespace normd::cli
