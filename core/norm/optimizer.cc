#include "core/norm/optimizer.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

absl::Status Invalid(absl::string_view field, absl::string_view message) {
  return MakeError(Reason::kOptimizerInvalid, absl::StrCat("optimizer.", message),
                   {{"field", absl::StrCat("config.optimizer.", field)}});
}

absl::Status CheckNotNegative(absl::string_view field, double value) {
  if (std::isfinite(value) && value >= 0) return absl::OkStatus();
  return Invalid(field, absl::StrCat(field, " is ", value, ", expected finite and >= 0"));
}

absl::Status CheckBeta(absl::string_view field, double value) {
  // Written so that NaN is out of range.
  if (value >= 0 && value < 1) return absl::OkStatus();
  return Invalid(field, absl::StrCat(field, " is ", value, ", expected >= 0 and < 1"));
}

absl::Status CheckSgd(const OptimizerConfig& config) {
  NORMD_RETURN_IF_ERROR(CheckNotNegative("momentum", config.momentum));
  if (!std::isfinite(config.dampening)) {
    return Invalid("dampening",
                   absl::StrCat("dampening is ", config.dampening, ", expected finite"));
  }
  if (config.nesterov && (config.momentum <= 0 || config.dampening != 0)) {
    return Invalid("nesterov", absl::StrCat("nesterov is true with momentum ", config.momentum,
                                            " and dampening ", config.dampening,
                                            ", expected momentum > 0 and dampening 0"));
  }
  return absl::OkStatus();
}

absl::Status CheckAdam(const OptimizerConfig& config) {
  NORMD_RETURN_IF_ERROR(CheckBeta("beta1", config.beta1));
  NORMD_RETURN_IF_ERROR(CheckBeta("beta2", config.beta2));
  return CheckNotNegative("eps", config.eps);
}

void StepSgd(const OptimizerConfig& config, absl::Span<const double> grad,
             absl::Span<double> parameter, OptimizerSlots& slots) {
  std::vector<double>& momentum_buffer = slots.first;
  // The first buffer is the gradient itself, undampened.
  const bool first_step = momentum_buffer.empty();
  if (config.momentum != 0) momentum_buffer.resize(grad.size());
  for (size_t i = 0; i < grad.size(); ++i) {
    double direction = config.maximize ? -grad[i] : grad[i];
    if (config.weight_decay != 0) direction += config.weight_decay * parameter[i];
    if (config.momentum != 0) {
      double& buffer = momentum_buffer[i];
      buffer =
          first_step ? direction : buffer * config.momentum + (1 - config.dampening) * direction;
      direction = config.nesterov ? direction + config.momentum * buffer : buffer;
    }
    parameter[i] += -config.lr * direction;
  }
}

void StepAdam(const OptimizerConfig& config, absl::Span<const double> grad,
              absl::Span<double> parameter, OptimizerSlots& slots) {
  const bool decoupled = config.algorithm == OptimizerAlgorithm::kAdamW;
  slots.first.resize(grad.size());
  slots.second.resize(grad.size());
  if (config.amsgrad) slots.third.resize(grad.size());
  const auto step = static_cast<double>(slots.step);
  const double bias_correction1 = 1 - std::pow(config.beta1, step);
  const double bias_correction2 = 1 - std::pow(config.beta2, step);
  const double step_size = config.lr / bias_correction1;
  const double root_correction = std::sqrt(bias_correction2);
  for (size_t i = 0; i < grad.size(); ++i) {
    double direction = config.maximize ? -grad[i] : grad[i];
    if (decoupled) {
      parameter[i] *= 1 - config.lr * config.weight_decay;
    } else if (config.weight_decay != 0) {
      direction += config.weight_decay * parameter[i];
    }
    double& exp_avg = slots.first[i];
    double& exp_avg_sq = slots.second[i];
    exp_avg = exp_avg * config.beta1 + (1 - config.beta1) * direction;
    exp_avg_sq = exp_avg_sq * config.beta2 + (1 - config.beta2) * direction * direction;
    double square = exp_avg_sq;
    if (config.amsgrad) {
      double& max_exp_avg_sq = slots.third[i];
      // As torch.maximum, NaN wins.
      if (!(exp_avg_sq <= max_exp_avg_sq) && !std::isnan(max_exp_avg_sq)) {
        max_exp_avg_sq = exp_avg_sq;
      }
      square = max_exp_avg_sq;
    }
    const double denominator = std::sqrt(square) / root_correction + config.eps;
    parameter[i] += -step_size * exp_avg / denominator;
  }
}

}  // namespace

absl::Status CheckOptimizerAlgorithm(OptimizerAlgorithm algorithm) {
  switch (algorithm) {
    case OptimizerAlgorithm::kSgd:
    case OptimizerAlgorithm::kAdam:
    case OptimizerAlgorithm::kAdamW:
      return absl::OkStatus();
  }
  return Invalid("algorithm", absl::StrCat("algorithm is ", static_cast<int>(algorithm),
                                           ", expected SGD (1), ADAM (2) or ADAMW (3)"));
}

absl::Status CheckOptimizerConfig(const OptimizerConfig& config) {
  NORMD_RETURN_IF_ERROR(CheckOptimizerAlgorithm(config.algorithm));
  NORMD_RETURN_IF_ERROR(CheckNotNegative("lr", config.lr));
  NORMD_RETURN_IF_ERROR(CheckNotNegative("weight_decay", config.weight_decay));
  return config.algorithm == OptimizerAlgorithm::kSgd ? CheckSgd(config) : CheckAdam(config);
}

void StepParameter(const OptimizerConfig& config, absl::Span<const double> grad,
                   absl::Span<double> parameter, OptimizerSlots& slots) {
  ++slots.step;
  if (config.algorithm == OptimizerAlgorithm::kSgd) {
    StepSgd(config, grad, parameter, slots);
  } else {
    StepAdam(config, grad, parameter, slots);
  }
}

}  // namespace normd
