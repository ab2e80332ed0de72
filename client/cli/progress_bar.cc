#include "client/cli/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/text.h"

namespace normd::cli {
namespace {

constexpr absl::Duration kDelay = absl::Milliseconds(500);
constexpr absl::Duration kInterval = absl::Milliseconds(100);
constexpr int kBarWidth = 24;
constexpr double kMinimumSeconds = 1e-9;

}  // namespace

std::string ProgressLine(absl::string_view title, const Progress& progress,
                         absl::Duration elapsed) {
  const double seconds = std::max(absl::ToDoubleSeconds(elapsed), kMinimumSeconds);
  std::string line(title);
  std::string time_left;
  if (progress.fraction.has_value()) {
    const double fraction = std::clamp(*progress.fraction, 0.0, 1.0);
    const int filled = static_cast<int>(std::floor(fraction * kBarWidth));
    absl::StrAppendFormat(&line, "  %3.0f%% [%s%s]", std::floor(fraction * 100),
                          std::string(static_cast<size_t>(filled), '#'),
                          std::string(static_cast<size_t>(kBarWidth - filled), '.'));
    if (fraction > 0) {
      time_left = absl::StrCat("  ", FormatSeconds(seconds / fraction - seconds), " left");
    }
  }
  absl::StrAppend(&line, "  ", progress.batches, " ", progress.unit, "  ",
                  FormatRate(static_cast<double>(progress.batches) / seconds), " ", progress.unit,
                  "/s");
  if (progress.bytes.has_value()) {
    absl::StrAppend(&line, "  ", FormatRate(static_cast<double>(*progress.bytes) / 1e6 / seconds),
                    " MB/s");
  }
  absl::StrAppend(&line, time_left);
  return line;
}

ProgressBar::ProgressBar(std::FILE* terminal, std::string title)
    : terminal_(terminal),
      title_(std::move(title)),
      start_(absl::Now()),
      next_draw_(start_ + kDelay) {}

ProgressBar::~ProgressBar() { Clear(); }

void ProgressBar::Update(const Progress& progress) {
  if (terminal_ == nullptr) return;
  const absl::Time now = absl::Now();
  if (now < next_draw_) return;
  next_draw_ = now + kInterval;
  std::fprintf(terminal_, "\r%s\x1b[K", ProgressLine(title_, progress, now - start_).c_str());
  std::fflush(terminal_);
  is_drawn_ = true;
}

void ProgressBar::Clear() {
  if (!is_drawn_) return;
  std::fputs("\r\x1b[K", terminal_);
  std::fflush(terminal_);
  is_drawn_ = false;
}

std::FILE* TerminalForProgress() { return isatty(STDERR_FILENO) != 0 ? stderr : nullptr; }

}  // namespace normd::cli
