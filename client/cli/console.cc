#include "client/cli/console.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cpp/error.h"

namespace normd::cli {
namespace {

// Somebody waits, and a server that is there answers at once.
constexpr absl::Duration kConnectTimeoutMax = absl::Seconds(3);

void PrintLine(absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  std::fwrite(text.data(), 1, text.size(), stderr);
}

// A name from the user or a file may not be UTF-8, and JSON must be.
std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

ExitCode PrintError(const GlobalOptions& options, ExitCode exit_code, absl::string_view code,
                    const absl::Status& status) {
  const std::string reason = client::ErrorReason(status);
  if (!options.json) {
    PrintLine(absl::StrCat("normctl: ", status.message(),
                           reason.empty() ? "" : absl::StrCat(" (reason ", reason, ")")));
    return exit_code;
  }
  nlohmann::ordered_json error = {{"message", std::string(status.message())},
                                  {"code", std::string(code)},
                                  {"exit_code", static_cast<int>(exit_code)}};
  if (!reason.empty()) {
    error["reason"] = reason;
    error["metadata"] = client::ErrorMetadata(status);
  }
  nlohmann::ordered_json line;
  line["error"] = std::move(error);
  PrintLine(Dump(line));
  return exit_code;
}

}  // namespace

absl::StatusOr<std::unique_ptr<client::Client>> Connect(const GlobalOptions& options) {
  client::ClientOptions client_options;
  client_options.address = options.address;
  client_options.connect_timeout =
      std::min(absl::Seconds(options.timeout_seconds), kConnectTimeoutMax);
  client_options.call_timeout = absl::Seconds(options.timeout_seconds);
  return client::Client::Connect(client_options);
}

ExitCode ServerError(const GlobalOptions& options, const absl::Status& status) {
  return PrintError(options, ExitCodeOf(status), absl::StatusCodeToString(status.code()), status);
}

ExitCode InputError(const GlobalOptions& options, const absl::Status& status) {
  return PrintError(options, ExitCode::kInput, "INPUT", status);
}

ExitCode UsageError(const GlobalOptions& options, absl::string_view message) {
  return PrintError(options, ExitCode::kUsage, "USAGE", absl::InvalidArgumentError(message));
}

absl::Status Reworded(const absl::Status& status, absl::string_view message) {
  absl::Status reworded(status.code(), message);
  status.ForEachPayload([&reworded](absl::string_view type_url, const absl::Cord& payload) {
    reworded.SetPayload(type_url, payload);
  });
  return reworded;
}

void PrintNote(const GlobalOptions& options, absl::string_view message) {
  if (!options.json) PrintLine(absl::StrCat("normctl: ", message));
}

bool PrintText(const GlobalOptions& options, absl::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return true;
  }
  InputError(options, absl::UnavailableError(
                          absl::StrCat("standard output: cannot write: ", std::strerror(errno))));
  return false;
}

bool PrintJson(const GlobalOptions& options, const nlohmann::ordered_json& json) {
  return PrintText(options, absl::StrCat(Dump(json), "\n"));
}

}  // namespace normd::cli
