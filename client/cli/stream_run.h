#ifndef NORMD_CLIENT_CLI_STREAM_RUN_H_
#define NORMD_CLIENT_CLI_STREAM_RUN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/batch_cutter.h"
#include "client/cli/batch_ledger.h"
#include "client/cli/console.h"
#include "client/cpp/retry.h"

namespace normd::cli {

// "channels-first" and "channels-last".
const std::map<std::string, client::Layout>& Layouts();

// The options that train, normalize and backward share.
struct StreamOptions {
  std::string name;
  std::string input_path = "-";
  std::string output_path;  // empty: none was given
  CutOptions cut;
  bool keep_going = false;
  int64_t window = 64;
  double retry_timeout_seconds = 60;
};

// `options` must outlive `command`.
void AddStreamOptions(CLI::App* command, StreamOptions* options);

client::RetryOptions ToRetryOptions(const StreamOptions& options);

// What is wrong with reading values from a terminal or writing .npy to one; empty when neither is
// asked for.
std::string TerminalFault(const StreamOptions& options);

using NextBatch = std::function<absl::StatusOr<std::optional<BatchCutter::MiniBatch>>()>;

// The whole life of a stream: takes mini-batches from `next`, calls `send` with each, then `close`,
// after which no answer comes. Both return the stream's status. What stops the run is printed.
// `hint` is a second line for an error of the stream; may be empty. Returns the exit code so far,
// before refusals.
ExitCode FeedStream(const GlobalOptions& global, const NextBatch& next, BatchLedger* ledger,
                    const std::function<absl::Status(const BatchCutter::MiniBatch&)>& send,
                    const std::function<absl::Status()>& close, const std::string& hint);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_STREAM_RUN_H_
