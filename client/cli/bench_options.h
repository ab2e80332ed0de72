#ifndef NORMD_CLIENT_CLI_BENCH_OPTIONS_H_
#define NORMD_CLIENT_CLI_BENCH_OPTIONS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "client/cpp/batch.h"
#include "client/cpp/result.h"
#include "client/load/request_source.h"

namespace normd::cli {

// What the server is.
enum class BenchPeer {
  kNormd,
  kAny,  // whatever answers every message of the method with one message
};

struct BenchOptions {
  load::Mode mode = load::Mode::kTrain;
  BenchPeer peer = BenchPeer::kNormd;

  // The messages.
  std::vector<int64_t> shape = {64, 64};
  client::DataType dtype = client::DataType::kFloat32;
  client::Layout layout = client::Layout::kChannelsFirst;
  bool no_output = false;
  client::Durability durability = client::Durability::kDurable;
  uint64_t seed = std::random_device()();

  // Where they go.
  int64_t states = 1;
  std::string prefix = "bench/";
  bool existing = false;
  bool keep = false;

  // How they are sent.
  int64_t streams = 1;
  int64_t window = 64;
  int64_t channels = 1;
  int64_t threads = 1;  // AddBenchOptions makes it half of the cores
  double warmup_seconds = 1;
  double duration_seconds = 5;
  int64_t messages = 0;  // 0: warm-up and duration say when to end
};

// `options` must outlive `command`.
void AddBenchOptions(CLI::App* command, BenchOptions* options);

// What is wrong with options that are each right; empty when nothing is.
std::string BenchFault(const BenchOptions& options);

// Values of a standard normal distribution, the same for a seed.
client::Batch BenchBatch(const BenchOptions& options);

// The size of the channel axis. REQUIRES: BenchFault is empty.
int64_t BenchChannels(const BenchOptions& options);

// "train", "train-moments", "normalize".
const char* BenchModeName(load::Mode mode);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_BENCH_OPTIONS_H_
