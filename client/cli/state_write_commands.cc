#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/array_reader.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/norm_options.h"
#include "client/cli/state_report.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

struct CreateOptions {
  std::string name;
  NormOptions norm;
  std::string weight_path;
  std::string bias_path;
  std::string running_mean_path;
  std::string running_var_path;
  int64_t num_batches_tracked = 0;
};

struct UpdateOptions {
  std::string name;
  std::string etag;
  client::ConfigUpdate update;
  OptimizerOptions optimizer;
};

struct ParameterOptions {
  std::string name;
  std::string etag;
  std::string weight_path;
  std::string bias_path;
};

// Options of a command that takes a name and, but for reset, an etag.
struct NameOptions {
  std::string name;
  std::string etag;
};

absl::StatusOr<client::InitialValues> ReadInitialValues(const CreateOptions& options) {
  client::InitialValues initial;
  if (!options.weight_path.empty()) {
    NORMD_CLI_ASSIGN_OR_RETURN(initial.weight, ReadValuesFile(options.weight_path));
  }
  if (!options.bias_path.empty()) {
    NORMD_CLI_ASSIGN_OR_RETURN(initial.bias, ReadValuesFile(options.bias_path));
  }
  if (!options.running_mean_path.empty()) {
    NORMD_CLI_ASSIGN_OR_RETURN(initial.running_mean, ReadVectorFile(options.running_mean_path));
  }
  if (!options.running_var_path.empty()) {
    NORMD_CLI_ASSIGN_OR_RETURN(initial.running_var, ReadVectorFile(options.running_var_path));
  }
  initial.num_batches_tracked = options.num_batches_tracked;
  return initial;
}

ExitCode RunCreate(const GlobalOptions& global, const CreateOptions& options) {
  const absl::StatusOr<client::StateConfig> config = ToConfig(options.norm);
  if (!config.ok()) return UsageError(global, config.status().message());
  const absl::StatusOr<client::InitialValues> initial = ReadInitialValues(options);
  if (!initial.ok()) return InputError(global, initial.status());
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  return ReportState(global, (*client)->CreateState(options.name, *config, *initial), "created");
}

ExitCode RunUpdate(const GlobalOptions& global, const UpdateOptions& options) {
  client::ConfigUpdate update = options.update;
  const OptimizerOptions& optimizer = options.optimizer;
  const bool lr_alone = optimizer.lr && !optimizer.algorithm && !optimizer.is_none;
  if (lr_alone && !HasDetails(optimizer)) {
    update.lr = optimizer.lr;
  } else {
    const auto replaced = ToOptimizer(optimizer);
    if (!replaced.ok()) return UsageError(global, replaced.status().message());
    update.optimizer = *replaced;
    update.remove_optimizer = optimizer.is_none;
  }
  if (!update.eps && !update.momentum && !update.cumulative_average && !update.correction &&
      !update.non_finite && !update.optimizer && !update.remove_optimizer && !update.lr) {
    return UsageError(global,
                      "nothing to update: give --eps, --momentum, --cumulative-average, "
                      "--running-var-correction, --non-finite, --optimizer or --lr");
  }
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  return ReportState(global, (*client)->UpdateState(options.name, update, options.etag), "updated");
}

ExitCode RunSetParameters(const GlobalOptions& global, const ParameterOptions& options) {
  if (options.weight_path.empty() && options.bias_path.empty()) {
    return UsageError(global, "nothing to set: give --weight, --bias or both");
  }
  std::vector<double> weight;
  std::vector<double> bias;
  std::optional<absl::Span<const double>> new_weight;
  std::optional<absl::Span<const double>> new_bias;
  for (const auto& [path, values, span] : {std::tuple(&options.weight_path, &weight, &new_weight),
                                           std::tuple(&options.bias_path, &bias, &new_bias)}) {
    if (path->empty()) continue;
    absl::StatusOr<std::vector<double>> read = ReadValuesFile(*path);
    if (!read.ok()) return InputError(global, read.status());
    *values = *std::move(read);
    *span = *values;
  }
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  return ReportState(global,
                     (*client)->SetParameters(options.name, new_weight, new_bias, options.etag),
                     "parameters set");
}

ExitCode RunDelete(const GlobalOptions& global, const NameOptions& options) {
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  const absl::Status status = (*client)->DeleteState(options.name, options.etag);
  if (!status.ok()) return ServerError(global, status);
  const bool printed = global.json ? PrintJson(global, {{"name", options.name}, {"deleted", true}})
                                   : PrintText(global, absl::StrCat(options.name, " deleted\n"));
  return printed ? ExitCode::kOk : ExitCode::kInput;
}

void AddCreate(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "create", "Create a state of the norm family",
      "  normctl create resnet/bn1 --num-features 64 --momentum 0.01\n"
      "  normctl create resnet/bn2 --num-features 64 --weight weight.npy --bias bias.npy \\\n"
      "      --running-mean mean.npy --running-var var.npy --num-batches-tracked 1000\n"
      "  normctl create gpt/ln1 --kind layer_norm --normalized-shape 768 --optimizer adam\n"
      "  normctl create style/in1 --kind instance_norm --num-features 32 --affine\n"
      "  normctl create unet/gn1 --kind group_norm --num-groups 8 --num-features 64");
  const auto options = std::make_shared<CreateOptions>();
  AddName(command, &options->name);
  command
      ->add_option("--num-features", options->norm.num_features,
                   "C, the channels of a batch; required but for layer_norm and rms_norm")
      ->option_text("C")
      ->check(WholeNumber());
  AddNormOptions(command, &options->norm);
  command->add_option("--weight", options->weight_path, "weight to begin with, C values")
      ->option_text("FILE");
  command->add_option("--bias", options->bias_path, "bias to begin with, C values")
      ->option_text("FILE");
  command
      ->add_option("--running-mean", options->running_mean_path, "running_mean to begin with, (C,)")
      ->option_text("FILE");
  command->add_option("--running-var", options->running_var_path, "running_var to begin with, (C,)")
      ->option_text("FILE");
  command
      ->add_option("--num-batches-tracked", options->num_batches_tracked,
                   "num_batches_tracked to begin with")
      ->option_text("COUNT")
      ->check(WholeNumber());
  command->callback([line, options] {
    line->run = [line, options] { return RunCreate(line->global, *options); };
  });
}

void AddUpdate(CLI::App* app, CommandLine* line) {
  CLI::App* const command =
      AddCommand(app, "update", "Change the config of a state",
                 "  normctl update resnet/bn1 --momentum 0.01 --eps 1e-3\n"
                 "  normctl update resnet/bn1 --non-finite propagate --etag ETAG\n"
                 "  normctl update resnet/bn1 --lr 1e-4             the rest of it stays\n"
                 "  normctl update resnet/bn1 --optimizer sgd --lr 0.1 --optimizer-momentum 0.9");
  const auto options = std::make_shared<UpdateOptions>();
  AddName(command, &options->name);
  AddEtag(command, &options->etag);
  command->add_option("--eps", options->update.eps, "Added to the variance")->option_text("NUMBER");
  AddAveragingOptions(command, &options->update.momentum, &options->update.cumulative_average);
  command
      ->add_option("--running-var-correction", options->update.correction,
                   "Subtracted from the count in running_var: 1 or 0")
      ->option_text("0|1");
  command
      ->add_option("--non-finite", options->update.non_finite,
                   "A NaN or an infinity in a batch: refuse it or propagate it")
      ->transform(CLI::CheckedTransformer(NonFinitePolicies()))
      ->option_text("refuse|propagate");
  AddOptimizerOptions(command, &options->optimizer);
  command->callback([line, options] {
    line->run = [line, options] { return RunUpdate(line->global, *options); };
  });
}

void AddSetParameters(CLI::App* app, CommandLine* line) {
  CLI::App* const command =
      AddCommand(app, "set-parameters", "Set weight, bias or both",
                 "  normctl set-parameters resnet/bn1 --weight weight.npy --bias bias.npy\n"
                 "  echo '[0, 0, 0]' | normctl set-parameters resnet/bn1 --bias -");
  const auto options = std::make_shared<ParameterOptions>();
  AddName(command, &options->name);
  AddEtag(command, &options->etag);
  command->add_option("--weight", options->weight_path, "The new weight, C values")
      ->option_text("FILE");
  command->add_option("--bias", options->bias_path, "The new bias, C values")->option_text("FILE");
  command->callback([line, options] {
    line->run = [line, options] { return RunSetParameters(line->global, *options); };
  });
}

// Adds a command that takes a name and, when `has_etag`, an etag.
void AddNameCommand(
    CLI::App* app, CommandLine* line, const std::string& name, const std::string& description,
    bool has_etag,
    const std::function<ExitCode(const GlobalOptions& global, const NameOptions& options)>& run) {
  CLI::App* const command =
      AddCommand(app, name, description, absl::StrCat("  normctl ", name, " resnet/bn1"));
  const auto options = std::make_shared<NameOptions>();
  AddName(command, &options->name);
  if (has_etag) AddEtag(command, &options->etag);
  command->callback([line, options, run] {
    line->run = [line, options, run] { return run(line->global, *options); };
  });
}

// A command that makes one call and reports the state.
template <typename Call>
auto Reporting(absl::string_view verb, Call call) {
  return [verb, call](const GlobalOptions& global, const NameOptions& options) {
    const auto client = Connect(global);
    if (!client.ok()) return ServerError(global, client.status());
    return ReportState(global, call(client->get(), options), verb);
  };
}

}  // namespace

void AddStateWriteCommands(CLI::App* app, CommandLine* line) {
  AddCreate(app, line);
  AddUpdate(app, line);
  AddSetParameters(app, line);
  AddNameCommand(app, line, "reset",
                 "Set the running statistics back to mean 0, variance 1, 0 batches", false,
                 Reporting("reset", [](client::Client* client, const NameOptions& options) {
                   return client->ResetRunningStats(options.name);
                 }));
  AddNameCommand(app, line, "freeze",
                 "Make a state refuse every change but its deletion until it is unfrozen", true,
                 Reporting("frozen", [](client::Client* client, const NameOptions& options) {
                   return client->FreezeState(options.name, options.etag);
                 }));
  AddNameCommand(app, line, "unfreeze", "Let a frozen state be changed again", true,
                 Reporting("unfrozen", [](client::Client* client, const NameOptions& options) {
                   return client->UnfreezeState(options.name, options.etag);
                 }));
  AddNameCommand(app, line, "delete", "Delete a state and all it has learned", true, RunDelete);
}

}  // namespace normd::cli
