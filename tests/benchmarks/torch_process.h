#ifndef NORMD_TESTS_BENCHMARKS_TORCH_PROCESS_H_
#define NORMD_TESTS_BENCHMARKS_TORCH_PROCESS_H_

#include <sys/types.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/benchmarks/bench_case.h"
#include "tests/benchmarks/contender.h"

namespace normd::bench {

// PyTorch in a process of its own (torch_contender.py), asked over pipes. It waits while others
// run, and others wait while it runs. On one thread and on the CPUs of this process; its allocator
// keeps the memory of outputs, so that they are warm as ours are.
class TorchProcess {
 public:
  // Errors: kUnavailable (Python or PyTorch is not there).
  static absl::StatusOr<std::unique_ptr<TorchProcess>> Start(const std::string& python,
                                                             const std::string& script);
  ~TorchProcess();
  TorchProcess(const TorchProcess&) = delete;
  TorchProcess& operator=(const TorchProcess&) = delete;

  // A contender that is this process, until the next call. Errors: kUnavailable (the process has
  // ended; its words are on stderr).
  absl::StatusOr<std::unique_ptr<Contender>> Prepare(const BenchCase& bench_case);

  // The number that answers `command`. Errors as Prepare.
  absl::StatusOr<double> Ask(absl::string_view command);

 private:
  TorchProcess(pid_t pid, std::FILE* commands, std::FILE* answers)
      : pid_(pid), commands_(commands), answers_(answers) {}

  const pid_t pid_;
  std::FILE* const commands_;
  std::FILE* const answers_;
};

}  // namespace normd::bench

#endif  // NORMD_TESTS_BENCHMARKS_TORCH_PROCESS_H_
