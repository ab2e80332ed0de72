#ifndef NORMD_CLIENT_CLI_BATCH_LEDGER_H_
#define NORMD_CLIENT_CLI_BATCH_LEDGER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "client/cli/array_writer.h"
#include "client/cli/batch_cutter.h"
#include "client/cli/console.h"
#include "client/cli/moments_file.h"
#include "client/cli/progress_bar.h"

namespace normd::cli {

// `status` with "mini-batch 7 (rows 600:700) `what`: " before its message, and with the cure behind
// it when the mini-batch is too large.
absl::Status WithPlace(const BatchPlace& place, absl::string_view what, const absl::Status& status);

// Keeps account of the mini-batches of a stream: what was sent, and, as the answers come in the
// order of sending, what was refused and why. Writes the outputs and the moments in that order, up
// to the first refusal or, with keep_going, to the end; the rows of a mini-batch that has none are
// NaN, and its moments those of no set, so that rows of input and output, mini-batches and moments
// correspond. Thread-safe.
class BatchLedger {
 public:
  struct Totals {
    int64_t batches = 0;  // answered and not refused
    int64_t rows = 0;     // in them
    int64_t bytes = 0;    // in them
    int64_t refused = 0;
    // Mini-batches that were not refused and had none.
    int64_t outputs_missing = 0;
    int64_t moments_missing = 0;
    ExitCode first_refusal = ExitCode::kOk;
    absl::Status output_status;  // why the outputs could not be written
  };

  // `title` stands before the progress bar. `output` and `moments` are null when they are not
  // wanted; they must outlive the ledger.
  BatchLedger(const GlobalOptions& global, std::string title, bool keep_going, ArrayWriter* output,
              ArrayWriter* moments = nullptr);

  // Called before a mini-batch is sent.
  void AddSent(const BatchPlace& place);

  // Called with the answer to the first mini-batch sent that has none. A refusal is printed, up to
  // a bound. `output` is the bytes of the output, in the dtype sent, or nothing.
  void AddAnswer(const absl::Status& status, std::optional<absl::string_view> output,
                 const SavedMoments& moments = std::nullopt);

  // True when nothing more is to be sent: after a refusal without keep_going, or when the outputs
  // cannot be written.
  bool ShouldStop() const;

  // Clears the progress bar and returns what became of the mini-batches.
  Totals Finish();

 private:
  void PrintRefusal(const BatchPlace& place, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WriteOutput(const BatchPlace& place, std::optional<absl::string_view> output)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const GlobalOptions global_;
  const bool keep_going_;
  ArrayWriter* const output_;
  ArrayWriter* const moments_;

  mutable absl::Mutex mutex_;
  std::deque<BatchPlace> unanswered_ ABSL_GUARDED_BY(mutex_);
  Totals totals_ ABSL_GUARDED_BY(mutex_);
  ProgressBar progress_bar_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_BATCH_LEDGER_H_
