#include "client/cli/batch_ledger.h"

#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/status_macros.h"
#include "client/cpp/error.h"

namespace normd::cli {
namespace {

constexpr int64_t kRefusalsPrintedMax = 20;

}  // namespace

absl::Status WithPlace(const BatchPlace& place, absl::string_view what,
                       const absl::Status& status) {
  const bool too_large = client::ErrorReason(status) == "MESSAGE_TOO_LARGE";
  return Reworded(status,
                  absl::StrCat(PlaceToText(place), " ", what, ": ", status.message(),
                               too_large ? "; cut the input with a smaller --batch-size" : ""));
}

BatchLedger::BatchLedger(const GlobalOptions& global, std::string title, bool keep_going,
                         ArrayWriter* output, ArrayWriter* moments)
    : global_(global),
      keep_going_(keep_going),
      output_(output),
      moments_(moments),
      progress_bar_(global.json ? nullptr : TerminalForProgress(), std::move(title)) {}

void BatchLedger::AddSent(const BatchPlace& place) {
  const absl::MutexLock lock(&mutex_);
  unanswered_.push_back(place);
}

void BatchLedger::AddAnswer(const absl::Status& status, std::optional<absl::string_view> output,
                            const SavedMoments& moments) {
  const absl::MutexLock lock(&mutex_);
  const BatchPlace place = std::move(unanswered_.front());
  unanswered_.pop_front();
  if (!status.ok()) {
    if (totals_.refused++ == 0) totals_.first_refusal = ExitCodeOf(status);
    PrintRefusal(place, status);
  } else {
    ++totals_.batches;
    totals_.rows += place.end_row - place.first_row;
    totals_.bytes += place.bytes;
    if (!output.has_value()) ++totals_.outputs_missing;
    if (!moments.has_value()) ++totals_.moments_missing;
  }
  const bool stopped = totals_.refused > 0 && !keep_going_;
  if (output_ != nullptr && !stopped && totals_.output_status.ok()) {
    totals_.output_status = WriteOutput(place, output);
  }
  if (moments_ != nullptr && !stopped && totals_.output_status.ok()) {
    totals_.output_status = WriteMoments(moments, moments_);
  }
  progress_bar_.Update(Progress{totals_.batches, totals_.bytes, place.fraction_read});
}

bool BatchLedger::ShouldStop() const {
  const absl::MutexLock lock(&mutex_);
  return (totals_.refused > 0 && !keep_going_) || !totals_.output_status.ok();
}

BatchLedger::Totals BatchLedger::Finish() {
  const absl::MutexLock lock(&mutex_);
  progress_bar_.Clear();
  if (totals_.refused > kRefusalsPrintedMax) {
    PrintNote(global_,
              absl::StrCat("and ", totals_.refused - kRefusalsPrintedMax, " more were refused"));
  }
  return totals_;
}

void BatchLedger::PrintRefusal(const BatchPlace& place, const absl::Status& status) {
  if (totals_.refused > kRefusalsPrintedMax) return;
  progress_bar_.Clear();
  ServerError(global_, WithPlace(place, "refused", status));
}

absl::Status BatchLedger::WriteOutput(const BatchPlace& place,
                                      std::optional<absl::string_view> output) {
  if (place.array_shape.has_value()) {
    NORMD_CLI_RETURN_IF_ERROR(output_->BeginArray(*place.array_shape, place.dtype));
  }
  if (output.has_value()) return output_->Write(*output);
  const int64_t elements = place.bytes / client::ElementBytes(place.dtype);
  NORMD_CLI_ASSIGN_OR_RETURN(
      const Array nans,
      Convert(MakeArray({elements}, std::vector<float>(static_cast<size_t>(elements),
                                                       std::numeric_limits<float>::quiet_NaN())),
              place.dtype));
  return output_->Write(nans.bytes);
}

}  // namespace normd::cli
