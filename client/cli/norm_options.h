#ifndef NORMD_CLIENT_CLI_NORM_OPTIONS_H_
#define NORMD_CLIENT_CLI_NORM_OPTIONS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "client/cpp/state.h"

// The options that say what a state computes, shared by create, update and import.
namespace normd::cli {

// "batch_norm" and so on.
const std::map<std::string, client::NormKind>& NormKinds();
// "float32" and so on.
const std::map<std::string, client::DataType>& DataTypes();
// "refuse" and "propagate".
const std::map<std::string, client::NonFinite>& NonFinitePolicies();

// --optimizer and what goes with it; what was not given has no value.
struct OptimizerOptions {
  std::optional<client::Optimizer::Algorithm> algorithm;
  bool is_none = false;  // --optimizer none
  std::optional<double> lr;
  std::optional<double> momentum;
  std::optional<double> dampening;
  bool nesterov = false;
  std::optional<double> weight_decay;
  std::optional<double> beta1;
  std::optional<double> beta2;
  std::optional<double> eps;
  bool amsgrad = false;
  bool maximize = false;
};

// Whether an option but --optimizer and --lr was given.
bool HasDetails(const OptimizerOptions& options);

// The optimizer with torch.optim's defaults where nothing was given; nothing without --optimizer.
// Errors: kInvalidArgument that says which option is missing.
absl::StatusOr<std::optional<client::Optimizer>> ToOptimizer(const OptimizerOptions& options);

// What was not given has no value.
struct NormOptions {
  std::optional<client::NormKind> kind;
  std::optional<int64_t> num_features;
  std::vector<int64_t> normalized_shape;
  std::optional<int64_t> num_groups;
  std::optional<client::DataType> parameter_dtype;
  std::optional<double> eps;
  std::optional<double> momentum;
  bool cumulative_average = false;
  std::optional<bool> affine;
  std::optional<bool> track_running_stats;
  std::optional<int32_t> correction;
  std::optional<client::NonFinite> non_finite;
  OptimizerOptions optimizer;
};

// Whether any option was given.
bool HasAny(const NormOptions& options);

// Sets the fields of `config` for which an option was given. Errors: as ToOptimizer.
absl::Status Override(const NormOptions& options, client::StateConfig* config);

// A new state's config, with PyTorch's defaults of the kind. Errors: as Override; a size that the
// kind needs is missing.
absl::StatusOr<client::StateConfig> ToConfig(const NormOptions& options);

// "8,16". Throws a CLI::ValidationError of `option` for what is not whole numbers with commas.
std::vector<int64_t> ParseAxes(const std::string& option, const std::string& text);

// Each adds options to `command`; the destination must outlive it.
void AddOptimizerOptions(CLI::App* command, OptimizerOptions* options);
// All but --num-features.
void AddNormOptions(CLI::App* command, NormOptions* options);
// --momentum and --cumulative-average, which exclude each other.
void AddAveragingOptions(CLI::App* command, std::optional<double>* momentum,
                         bool* cumulative_average);
// --dtype: what values are rounded to before they are sent.
void AddDtypeOption(CLI::App* command, std::optional<client::DataType>* dtype);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_NORM_OPTIONS_H_
