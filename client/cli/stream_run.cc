#include "client/cli/stream_run.h"

#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/command_line.h"
#include "client/cli/norm_options.h"
#include "client/cpp/error.h"

namespace normd::cli {
namespace {

constexpr int64_t kWindowMax = 65536;
constexpr double kRetryTimeoutSecondsMax = 86400 * 365;

// Sends all mini-batches, or those before something stopped it.
ExitCode SendAll(const GlobalOptions& global, const NextBatch& next, BatchLedger* ledger,
                 const std::function<absl::Status(const BatchCutter::MiniBatch&)>& send) {
  while (!ledger->ShouldStop()) {
    const absl::StatusOr<std::optional<BatchCutter::MiniBatch>> batch = next();
    if (!batch.ok()) {
      // What the server would have refused is no fault of the input.
      return client::ErrorReason(batch.status()).empty() ? InputError(global, batch.status())
                                                         : ServerError(global, batch.status());
    }
    if (!batch->has_value()) break;
    const absl::Status sent = send(**batch);
    if (!sent.ok()) {
      return ServerError(global, WithPlace((*batch)->place, "could not be sent", sent));
    }
  }
  return ExitCode::kOk;
}

}  // namespace

const std::map<std::string, client::Layout>& Layouts() {
  static const auto* const kLayouts =
      new std::map<std::string, client::Layout>{{"channels-first", client::Layout::kChannelsFirst},
                                                {"channels-last", client::Layout::kChannelsLast}};
  return *kLayouts;
}

void AddStreamOptions(CLI::App* command, StreamOptions* options) {
  AddName(command, &options->name);
  command
      ->add_option("-i,--input", options->input_path,
                   "The values: .npy (float16, float32 or float64; C order), or several of\n"
                   "them one after another, or a JSON array of numbers; - is standard\n"
                   "input (default)")
      ->option_text("FILE|-");
  command
      ->add_option("-b,--batch-size", options->cut.batch_size,
                   "Cut along axis 0 into mini-batches of so many rows, the last may be\n"
                   "smaller (default: every array is one mini-batch)")
      ->option_text("ROWS")
      ->check(OneOrMore());
  command
      ->add_option("--layout", options->cut.layout,
                   "Where the channel axis stands: axis 1 (default) or the last")
      ->transform(CLI::CheckedTransformer(Layouts()))
      ->option_text("channels-first|channels-last");
  AddDtypeOption(command, &options->cut.dtype);
  command->add_flag("--keep-going", options->keep_going,
                    "Go on after a mini-batch that was refused");
  command
      ->add_option("--window", options->window,
                   "The most mini-batches sent and not yet answered, 1 to 65536 (default 64)")
      ->option_text("COUNT")
      ->check(CLI::Range(int64_t{1}, kWindowMax));
  command
      ->add_option("--retry-timeout", options->retry_timeout_seconds,
                   "Time to go on trying when the server is away (default 60)")
      ->option_text("SECONDS")
      ->check(SecondsIn(0.001, kRetryTimeoutSecondsMax));
}

client::RetryOptions ToRetryOptions(const StreamOptions& options) {
  client::RetryOptions retry;
  retry.retry_timeout = absl::Seconds(options.retry_timeout_seconds);
  return retry;
}

std::string TerminalFault(const StreamOptions& options) {
  if (options.input_path == "-" && isatty(STDIN_FILENO) != 0) {
    return "no input: give --input FILE, or pipe values to standard input";
  }
  if (options.output_path == "-" && isatty(STDOUT_FILENO) != 0) {
    return "--output - would write .npy to the terminal: redirect it";
  }
  return "";
}

ExitCode FeedStream(const GlobalOptions& global, const NextBatch& next, BatchLedger* ledger,
                    const std::function<absl::Status(const BatchCutter::MiniBatch&)>& send,
                    const std::function<absl::Status()>& close, const std::string& hint) {
  const ExitCode exit_code = SendAll(global, next, ledger, send);
  const absl::Status closed = close();
  if (closed.ok()) return exit_code;
  // When sending has failed, it has told why.
  const ExitCode close_code = exit_code == ExitCode::kOk ? ServerError(global, closed) : exit_code;
  if (!hint.empty()) PrintNote(global, hint);
  return close_code;
}

}  // namespace normd::cli
