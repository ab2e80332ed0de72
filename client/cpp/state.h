#ifndef NORMD_CLIENT_CPP_STATE_H_
#define NORMD_CLIENT_CPP_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/cpp/batch.h"

namespace normd::client {

// The member of the norm family.
enum class NormKind {
  kBatchNorm,
  kLayerNorm,
  kGroupNorm,
  kInstanceNorm,
  kRmsNorm,  // x / sqrt(mean(x^2) + eps) * weight; has no bias
};

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

// How gradients move weight and bias: torch.optim's algorithms, fields and defaults. A field that
// the algorithm does not have is left at its default here (OPTIMIZER_INVALID).
struct Optimizer {
  enum class Algorithm { kSgd, kAdam, kAdamW };

  // With the defaults of the algorithm.
  static Optimizer Sgd(double lr) { return {.algorithm = Algorithm::kSgd, .lr = lr}; }
  static Optimizer Adam(double lr = 1e-3) { return {.algorithm = Algorithm::kAdam, .lr = lr}; }
  static Optimizer AdamW(double lr = 1e-3) {
    return {.algorithm = Algorithm::kAdamW, .lr = lr, .weight_decay = 1e-2};
  }

  Algorithm algorithm = Algorithm::kSgd;
  double lr = 1e-3;         // learning rate
  double momentum = 0;      // kSgd: weight of the old step in the new one
  double dampening = 0;     // kSgd: 1 - dampening weighs the gradient in the momentum
  bool nesterov = false;    // kSgd
  double weight_decay = 0;  // kSgd, kAdam: L2; kAdamW: decoupled
  double beta1 = 0.9;       // kAdam, kAdamW: decay of the average of gradients
  double beta2 = 0.999;     // kAdam, kAdamW: decay of the average of squared gradients
  double eps = 1e-8;        // kAdam, kAdamW: added to the root
  bool amsgrad = false;     // kAdam, kAdamW: use the largest average of squares so far
  bool maximize = false;    // climb instead of descend

  bool operator==(const Optimizer&) const = default;
};

// What a state computes. The defaults are those of torch.nn.BatchNorm*d; the functions give those
// of each kind. A field that the kind does not have is left as they give it (FIELD_NOT_APPLICABLE).
struct StateConfig {
  static StateConfig BatchNorm(int64_t num_features);
  // Without weight, bias and running statistics, unless `affine` and `track_running_stats` are set.
  static StateConfig InstanceNorm(int64_t num_features);
  static StateConfig GroupNorm(int64_t num_groups, int64_t num_features);
  // Over the last axes of a batch.
  static StateConfig LayerNorm(std::vector<int64_t> normalized_shape);
  static StateConfig RmsNorm(std::vector<int64_t> normalized_shape);
  // The defaults of `kind`, sizes left for the caller.
  static StateConfig Default(NormKind kind);

  NormKind kind = NormKind::kBatchNorm;
  // C; required but for kLayerNorm and kRmsNorm, where 0 means product(normalized_shape).
  int64_t num_features = 0;
  // Nothing, for kRmsNorm alone: the machine epsilon of the batch's dtype.
  std::optional<double> eps = 1e-5;
  // Weight of the new value (PyTorch's direction); nullopt: cumulative average (momentum=None).
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  int32_t correction = 1;  // subtracted from the count in running_var: 1 (PyTorch) or 0
  NonFinite non_finite = NonFinite::kRefuse;
  std::vector<int64_t> normalized_shape;          // kLayerNorm, kRmsNorm
  int64_t num_groups = 0;                         // kGroupNorm
  DataType parameter_dtype = DataType::kFloat32;  // of weight and bias: kFloat32 or kFloat64
  std::optional<Optimizer> optimizer;             // nothing: gradients are refused

  bool operator==(const StateConfig&) const = default;
};

// Whether states of this kind can have running statistics.
bool CanTrack(NormKind kind);
// Whether a state of `config` has a bias: affine, and not kRmsNorm.
bool HasBias(const StateConfig& config);

// Values for a new state to start from. What is empty starts as in PyTorch: weight 1, bias 0,
// running_mean 0, running_var 1, num_batches_tracked 0.
struct InitialValues {
  std::vector<double> weight;        // length C; rounded to parameter_dtype
  std::vector<double> bias;          // length C; rounded to parameter_dtype
  std::vector<double> running_mean;  // length C
  std::vector<double> running_var;   // length C
  int64_t num_batches_tracked = 0;
};

// What a commit makes of the contributions to a calibration.
enum class CalibrationMethod {
  kMeanOfBatches,  // the mean of the batches' means and variances, as torch's update_bn
  kPooled,         // mean and variance of all values together; kBatchNorm alone
};

// Precise statistics being gathered beside the running ones.
struct Calibration {
  CalibrationMethod method = CalibrationMethod::kMeanOfBatches;
  int64_t num_batches = 0;  // contributed so far
  // Values of each channel contributed so far; kInstanceNorm: of each channel in one sample.
  int64_t count = 0;
  std::string calibration_id;  // names it among all of the state
};

// One named normalization state as the server has it.
struct State {
  std::string name;
  StateConfig config;
  // Length C in view kFull, empty in view kBasic; also empty when config.affine is false. Those of
  // a state with parameter_dtype kFloat32 are float32 values. kRmsNorm has no bias.
  std::vector<double> weight;
  std::vector<double> bias;
  // As weight, when config.track_running_stats.
  std::vector<double> running_mean;
  std::vector<double> running_var;
  int64_t num_batches_tracked = 0;
  bool frozen = false;
  int64_t revision = 0;                    // grows by one with every durable change
  std::string etag;                        // names config, parameters and frozen
  absl::Time create_time;                  // the server's clock
  absl::Time update_time;                  // the server's clock
  int64_t producer_count = 0;              // producers remembered for exactly-once updates
  int64_t optimizer_step = 0;              // steps taken
  std::optional<Calibration> calibration;  // under way
};

// Fields of a config to change; what has no value stays as it is.
struct ConfigUpdate {
  std::optional<double> eps;
  std::optional<double> momentum;
  // Average all batches alike (momentum=None). REQUIRES: not together with `momentum`.
  bool cumulative_average = false;
  std::optional<int32_t> correction;
  std::optional<NonFinite> non_finite;
  // The whole optimizer; its slots stay while the algorithm stays.
  std::optional<Optimizer> optimizer;
  // REQUIRES: of these three fields one at most.
  bool remove_optimizer = false;
  std::optional<double> lr;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_STATE_H_
