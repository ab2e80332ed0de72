#ifndef NORMD_CLIENT_CPP_STATE_H_
#define NORMD_CLIENT_CPP_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace normd::client {

// What to do with a NaN or an infinity in a batch.
enum class NonFinite {
  kRefuse,     // refuse the batch (NON_FINITE_VALUE)
  kPropagate,  // as PyTorch: the channel's running statistics become NaN for ever
};

// How much of a state is read.
enum class StateView {
  kBasic,  // everything but weight, bias, running_mean and running_var
  kFull,   // everything
};

// What a batch norm state computes. The defaults are PyTorch's.
struct StateConfig {
  int64_t num_features = 0;  // C; required
  double eps = 1e-5;
  // Weight of the new value (PyTorch's direction); nullopt: cumulative average (momentum=None).
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  int32_t correction = 1;  // subtracted from the count in running_var: 1 (PyTorch) or 0
  NonFinite non_finite = NonFinite::kRefuse;
};

// Values for a new state to start from. What is empty starts as in PyTorch: weight 1, bias 0,
// running_mean 0, running_var 1, num_batches_tracked 0.
struct InitialValues {
  std::vector<float> weight;         // length C
  std::vector<float> bias;           // length C
  std::vector<double> running_mean;  // length C
  std::vector<double> running_var;   // length C
  int64_t num_batches_tracked = 0;
};

// One named normalization state as the server has it.
struct State {
  std::string name;
  StateConfig config;
  // Length C in view kFull, empty in view kBasic; also empty when config.affine is false.
  std::vector<float> weight;
  std::vector<float> bias;
  // As weight, when config.track_running_stats.
  std::vector<double> running_mean;
  std::vector<double> running_var;
  int64_t num_batches_tracked = 0;
  bool frozen = false;
  int64_t revision = 0;        // grows by one with every durable change
  std::string etag;            // names config, parameters and frozen
  absl::Time create_time;      // the server's clock
  absl::Time update_time;      // the server's clock
  int64_t producer_count = 0;  // producers remembered for exactly-once updates
};

// Fields of a config to change; what has no value stays as it is.
struct ConfigUpdate {
  std::optional<double> eps;
  std::optional<double> momentum;
  // Average all batches alike (momentum=None). REQUIRES: not together with `momentum`.
  bool cumulative_average = false;
  std::optional<int32_t> correction;
  std::optional<NonFinite> non_finite;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_STATE_H_
