#ifndef NORMD_CLIENT_CLI_BENCH_REPORT_H_
#define NORMD_CLIENT_CLI_BENCH_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "client/cli/bench_options.h"
#include "client/load/load.h"
#include "nlohmann/json.hpp"

// What `normctl bench` tells when it has run.
namespace normd::cli {

struct BenchResult {
  std::string address;
  BenchOptions options;
  load::LoadReport load;
  double client_cpu_seconds = 0;  // of this process, over the whole load
  // By how much num_batches_tracked grew over all states, where updates were sent to a normd.
  std::optional<int64_t> tracked_growth;
  // Why that could not be read in the end; else OK.
  absl::Status tracked_status;
};

// Whether the server counted other updates than it acknowledged.
bool CountsDiffer(const BenchResult& result);

// A few lines for people; with a line end.
std::string BenchToText(const BenchResult& result);

nlohmann::ordered_json BenchToJson(const BenchResult& result);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_BENCH_REPORT_H_
