#include "client/cli/norm_options.h"

#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/command_line.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

using client::DataType;
using client::NormKind;
using client::Optimizer;

bool NeedsNormalizedShape(NormKind kind) {
  return kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm;
}

// --NAME and --no-NAME, so that the default of a kind can be changed both ways.
void AddSwitch(CLI::App* command, const std::string& name, const std::string& yes,
               const std::string& no, std::optional<bool>* value) {
  CLI::Option* const on = command->add_flag_callback(
      "--" + name, [value] { *value = true; }, yes);
  command
      ->add_flag_callback(
          "--no-" + name, [value] { *value = false; }, no)
      ->excludes(on);
}

template <typename T>
void AddNumber(CLI::App* command, const std::string& name, std::optional<T>* value,
               const std::string& description) {
  command->add_option(name, *value, description)->option_text("NUMBER");
}

}  // namespace

const std::map<std::string, NormKind>& NormKinds() {
  static const auto* const kKinds =
      new std::map<std::string, NormKind>{{"batch_norm", NormKind::kBatchNorm},
                                          {"layer_norm", NormKind::kLayerNorm},
                                          {"group_norm", NormKind::kGroupNorm},
                                          {"instance_norm", NormKind::kInstanceNorm},
                                          {"rms_norm", NormKind::kRmsNorm}};
  return *kKinds;
}

const std::map<std::string, DataType>& DataTypes() {
  static const auto* const kDataTypes =
      new std::map<std::string, DataType>{{"float16", DataType::kFloat16},
                                          {"bfloat16", DataType::kBfloat16},
                                          {"float32", DataType::kFloat32},
                                          {"float64", DataType::kFloat64}};
  return *kDataTypes;
}

const std::map<std::string, client::NonFinite>& NonFinitePolicies() {
  static const auto* const kPolicies = new std::map<std::string, client::NonFinite>{
      {"refuse", client::NonFinite::kRefuse}, {"propagate", client::NonFinite::kPropagate}};
  return *kPolicies;
}

bool HasDetails(const OptimizerOptions& options) {
  return options.momentum || options.dampening || options.nesterov || options.weight_decay ||
         options.beta1 || options.beta2 || options.eps || options.amsgrad || options.maximize;
}

absl::StatusOr<std::optional<Optimizer>> ToOptimizer(const OptimizerOptions& options) {
  if (!options.algorithm.has_value()) {
    if (!options.lr.has_value() && !HasDetails(options)) return std::nullopt;
    return absl::InvalidArgumentError(
        options.is_none ? "--optimizer none takes no options of an optimizer"
                        : "options of an optimizer need --optimizer sgd, adam or adamw");
  }
  const bool is_sgd = *options.algorithm == Optimizer::Algorithm::kSgd;
  if (is_sgd && !options.lr.has_value()) {
    return absl::InvalidArgumentError("--optimizer sgd needs --lr");
  }
  Optimizer optimizer = *options.algorithm == Optimizer::Algorithm::kAdamW ? Optimizer::AdamW()
                        : is_sgd ? Optimizer::Sgd(*options.lr)
                                 : Optimizer::Adam();
  optimizer.lr = options.lr.value_or(optimizer.lr);
  optimizer.momentum = options.momentum.value_or(optimizer.momentum);
  optimizer.dampening = options.dampening.value_or(optimizer.dampening);
  optimizer.nesterov = options.nesterov;
  optimizer.weight_decay = options.weight_decay.value_or(optimizer.weight_decay);
  optimizer.beta1 = options.beta1.value_or(optimizer.beta1);
  optimizer.beta2 = options.beta2.value_or(optimizer.beta2);
  optimizer.eps = options.eps.value_or(optimizer.eps);
  optimizer.amsgrad = options.amsgrad;
  optimizer.maximize = options.maximize;
  return optimizer;
}

bool HasAny(const NormOptions& options) {
  const OptimizerOptions& optimizer = options.optimizer;
  return options.kind || options.num_features || !options.normalized_shape.empty() ||
         options.num_groups || options.parameter_dtype || options.eps || options.momentum ||
         options.cumulative_average || options.affine || options.track_running_stats ||
         options.correction || options.non_finite || optimizer.algorithm || optimizer.is_none ||
         optimizer.lr || HasDetails(optimizer);
}

absl::Status Override(const NormOptions& options, client::StateConfig* config) {
  config->num_features = options.num_features.value_or(config->num_features);
  if (!options.normalized_shape.empty()) config->normalized_shape = options.normalized_shape;
  config->num_groups = options.num_groups.value_or(config->num_groups);
  config->parameter_dtype = options.parameter_dtype.value_or(config->parameter_dtype);
  if (options.eps.has_value()) config->eps = options.eps;
  if (options.momentum.has_value()) config->momentum = options.momentum;
  if (options.cumulative_average) config->momentum = std::nullopt;
  config->affine = options.affine.value_or(config->affine);
  config->track_running_stats = options.track_running_stats.value_or(config->track_running_stats);
  config->correction = options.correction.value_or(config->correction);
  config->non_finite = options.non_finite.value_or(config->non_finite);
  NORMD_CLI_ASSIGN_OR_RETURN(config->optimizer, ToOptimizer(options.optimizer));
  return absl::OkStatus();
}

absl::StatusOr<client::StateConfig> ToConfig(const NormOptions& options) {
  const NormKind kind = options.kind.value_or(NormKind::kBatchNorm);
  client::StateConfig config = client::StateConfig::Default(kind);
  NORMD_CLI_RETURN_IF_ERROR(Override(options, &config));
  if (NeedsNormalizedShape(kind) && config.normalized_shape.empty()) {
    return absl::InvalidArgumentError("--kind layer_norm and rms_norm need --normalized-shape");
  }
  if (!NeedsNormalizedShape(kind) && !options.num_features.has_value()) {
    return absl::InvalidArgumentError("--num-features is required");
  }
  if (kind == NormKind::kGroupNorm && !options.num_groups.has_value()) {
    return absl::InvalidArgumentError("--kind group_norm needs --num-groups");
  }
  return config;
}

std::vector<int64_t> ParseAxes(const std::string& option, const std::string& text) {
  std::vector<int64_t> axes;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    if (!absl::SimpleAtoi(part, &axes.emplace_back())) {
      throw CLI::ValidationError(option,
                                 absl::StrCat("'", text, "' is not whole numbers with commas"));
    }
  }
  return axes;
}

void AddOptimizerOptions(CLI::App* command, OptimizerOptions* options) {
  const std::map<std::string, Optimizer::Algorithm> algorithms = {
      {"sgd", Optimizer::Algorithm::kSgd},
      {"adam", Optimizer::Algorithm::kAdam},
      {"adamw", Optimizer::Algorithm::kAdamW}};
  command
      ->add_option_function<std::string>(
          "--optimizer",
          [options, algorithms](const std::string& name) {
            options->is_none = name == "none";
            if (!options->is_none) options->algorithm = algorithms.at(name);
          },
          "How gradients move weight and bias, as torch.optim; none: they are\n"
          "refused (default none)")
      ->check(CLI::IsMember({"sgd", "adam", "adamw", "none"}))
      ->option_text("sgd|adam|adamw|none");
  AddNumber(command, "--lr", &options->lr,
            "Learning rate (sgd: required; adam, adamw: default 1e-3)");
  AddNumber(command, "--optimizer-momentum", &options->momentum, "sgd: momentum (default 0)");
  AddNumber(command, "--dampening", &options->dampening, "sgd: dampening (default 0)");
  command->add_flag("--nesterov", options->nesterov, "sgd: Nesterov momentum");
  AddNumber(command, "--weight-decay", &options->weight_decay,
            "Weight decay (default 0; adamw: 0.01)");
  AddNumber(command, "--beta1", &options->beta1, "adam, adamw: default 0.9");
  AddNumber(command, "--beta2", &options->beta2, "adam, adamw: default 0.999");
  AddNumber(command, "--optimizer-eps", &options->eps,
            "adam, adamw: added to the root (default 1e-8)");
  command->add_flag("--amsgrad", options->amsgrad, "adam, adamw: the largest average of squares");
  command->add_flag("--maximize", options->maximize, "Climb instead of descend");
}

void AddNormOptions(CLI::App* command, NormOptions* options) {
  command->add_option("--kind", options->kind, "The member of the norm family (default batch_norm)")
      ->transform(CLI::CheckedTransformer(NormKinds()))
      ->option_text("batch_norm|layer_norm|group_norm|instance_norm|rms_norm");
  command
      ->add_option_function<std::string>(
          "--normalized-shape",
          [options](const std::string& text) {
            options->normalized_shape = ParseAxes("--normalized-shape", text);
          },
          "layer_norm, rms_norm: the last axes of a batch, as 8,16")
      ->option_text("AXES");
  command->add_option("--num-groups", options->num_groups, "group_norm: groups of channels")
      ->option_text("GROUPS")
      ->check(WholeNumber());
  command
      ->add_option("--parameter-dtype", options->parameter_dtype,
                   "The type of weight and bias (default float32)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, DataType>{
          {"float32", DataType::kFloat32}, {"float64", DataType::kFloat64}}))
      ->option_text("float32|float64");
  AddNumber(command, "--eps", &options->eps,
            "Added to the variance before the square root (default 1e-5;\n"
            "rms_norm: the machine epsilon of the batch's dtype)");
  AddAveragingOptions(command, &options->momentum, &options->cumulative_average);
  AddSwitch(command, "affine", "Have weight and bias (default; not of instance_norm)",
            "Have no weight and bias", &options->affine);
  AddSwitch(command, "track-running-stats",
            "Have running statistics (default of batch_norm alone; also for\ninstance_norm)",
            "Have no running statistics", &options->track_running_stats);
  command
      ->add_option("--running-var-correction", options->correction,
                   "Subtracted from the count in running_var: 1 (PyTorch, default) or 0")
      ->option_text("0|1");
  command
      ->add_option("--non-finite", options->non_finite,
                   "A NaN or an infinity in a batch: refuse it (default) or propagate it")
      ->transform(CLI::CheckedTransformer(NonFinitePolicies()))
      ->option_text("refuse|propagate");
  AddOptimizerOptions(command, &options->optimizer);
}

void AddAveragingOptions(CLI::App* command, std::optional<double>* momentum,
                         bool* cumulative_average) {
  CLI::Option* const option = command->add_option(
      "--momentum", *momentum, "Weight of the new value in the running statistics, 0 to 1");
  option->option_text("NUMBER");
  command
      ->add_flag("--cumulative-average", *cumulative_average,
                 "Weigh all batches alike (PyTorch's momentum=None)")
      ->excludes(option);
}

void AddDtypeOption(CLI::App* command, std::optional<DataType>* dtype) {
  command
      ->add_option("--dtype", *dtype,
                   "Round the values to it before they are sent (default: the dtype of\n"
                   "the .npy; float32 for JSON). Outputs have it too; those of bfloat16,\n"
                   "which .npy does not have, are written as float32, exactly")
      ->transform(CLI::CheckedTransformer(DataTypes()))
      ->option_text("float16|bfloat16|float32|float64");
}

}  // namespace normd::cli
