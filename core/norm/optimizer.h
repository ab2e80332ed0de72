#ifndef NORMD_CORE_NORM_OPTIMIZER_H_
#define NORMD_CORE_NORM_OPTIMIZER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace normd {

// How gradients move parameters. Same numbers as normd.v1.Optimizer.Algorithm.
enum class OptimizerAlgorithm { kSgd = 1, kAdam = 2, kAdamW = 3 };

// torch.optim's SGD, Adam and AdamW with their fields and defaults (torch/optim/sgd.py, adam.py,
// adamw.py). A field that the algorithm does not have means nothing.
struct OptimizerConfig {
  OptimizerAlgorithm algorithm = OptimizerAlgorithm::kSgd;
  double lr = 1e-3;
  double momentum = 0;      // kSgd
  double dampening = 0;     // kSgd
  bool nesterov = false;    // kSgd
  double weight_decay = 0;  // torch.optim.AdamW's default is 1e-2
  double beta1 = .9;        // kAdam, kAdamW
  double beta2 = .999;      // kAdam, kAdamW
  double eps = 1e-8;        // kAdam, kAdamW
  bool amsgrad = false;     // kAdam, kAdamW
  bool maximize = false;

  bool operator==(const OptimizerConfig&) const = default;
};

// OK when it is one of the algorithms. Errors: as below.
absl::Status CheckOptimizerAlgorithm(OptimizerAlgorithm algorithm);

// OK when every value of the algorithm is in torch's range: lr, momentum, weight_decay and eps
// finite and >= 0, dampening finite, betas in [0, 1), nesterov only with momentum > 0 and dampening
// 0. Errors: OPTIMIZER_INVALID (metadata field "config.optimizer.<field>").
absl::Status CheckOptimizerConfig(const OptimizerConfig& config);

// What an optimizer keeps of one parameter, in float64. A value; thread-compatible.
struct OptimizerSlots {
  int64_t step = 0;            // steps taken
  std::vector<double> first;   // momentum_buffer (kSgd) or exp_avg; empty until the first step
  std::vector<double> second;  // exp_avg_sq
  std::vector<double> third;   // max_exp_avg_sq, with amsgrad

  bool operator==(const OptimizerSlots&) const = default;
};

// One step of one parameter by its gradient, in float64, in the order of torch's operations
// (torch/optim/sgd.py, _single_tensor_sgd; adam.py, _single_tensor_adam; adamw.py,
// _single_tensor_adamw). Makes the slots that are missing. REQUIRES: `config` passes
// CheckOptimizerConfig; grad and parameter are equally long, and so are the slots that are there.
void StepParameter(const OptimizerConfig& config, absl::Span<const double> grad,
                   absl::Span<double> parameter, OptimizerSlots& slots);

}  // namespace normd

#endif  // NORMD_CORE_NORM_OPTIMIZER_H_
