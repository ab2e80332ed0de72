#ifndef NORMD_CLIENT_CLI_PROGRESS_BAR_H_
#define NORMD_CLIENT_CLI_PROGRESS_BAR_H_

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace normd::cli {

struct Progress {
  int64_t batches = 0;
  std::optional<int64_t> bytes;
  // Of the whole; nothing when it is not known.
  std::optional<double> fraction;
  // What `batches` counts.
  const char* unit = "batches";
};

// One line: title, percent and bar when the whole is known, batches, rates, time left.
std::string ProgressLine(absl::string_view title, const Progress& progress, absl::Duration elapsed);

// Draws that line over and over on a terminal, from half a second after the start, at most ten
// times a second. Thread-compatible.
class ProgressBar {
 public:
  // `terminal` may be null: then nothing is drawn.
  ProgressBar(std::FILE* terminal, std::string title);
  // Clears the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(const Progress& progress);
  // Clears the line, so that something else can be printed; the next update draws it again.
  void Clear();

 private:
  std::FILE* const terminal_;
  const std::string title_;
  const absl::Time start_;
  absl::Time next_draw_;
  bool is_drawn_ = false;
};

// Standard error when it is a terminal, else null.
std::FILE* TerminalForProgress();

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_PROGRESS_BAR_H_
