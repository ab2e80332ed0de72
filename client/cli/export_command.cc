#include <unistd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/model_file.h"
#include "client/cli/progress_bar.h"
#include "client/cli/safetensors.h"

namespace normd::cli {
namespace {

constexpr int32_t kPageSize = 100;

struct ExportOptions {
  std::string prefix;
  std::string output_path;
  Convention convention = Convention::kPyTorch;
  client::DataType dtype = client::DataType::kFloat32;
};

// Reads the states that begin with the prefix to `model`; returns how many.
ExitCode Collect(const GlobalOptions& global, const ExportOptions& options, ModelExport* model,
                 int64_t* count) {
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  client::ListOptions list_options;
  list_options.prefix = options.prefix;
  list_options.page_size = kPageSize;
  list_options.view = client::StateView::kFull;
  client::StateLister lister = (*client)->ListAllStates(std::move(list_options));
  ProgressBar progress_bar(global.json ? nullptr : TerminalForProgress(), "export");
  while (true) {
    const absl::StatusOr<std::optional<client::State>> state = lister.Next();
    if (!state.ok()) return ServerError(global, state.status());
    if (!state->has_value()) break;
    const absl::Status added = model->Add(**state);
    if (!added.ok()) return InputError(global, added);
    progress_bar.Update(Progress{++*count, std::nullopt, std::nullopt, "states"});
  }
  if (!lister.damaged().empty()) {
    return ServerError(global, absl::DataLossError(absl::StrCat(
                                   "the records of these states are damaged, nothing is exported: ",
                                   absl::StrJoin(lister.damaged(), ", "))));
  }
  if (*count > 0) return ExitCode::kOk;
  return ServerError(
      global, absl::NotFoundError(absl::StrCat("no state begins with '", options.prefix, "'")));
}

ExitCode RunExport(const GlobalOptions& global, const ExportOptions& options) {
  if (options.output_path == "-" && isatty(STDOUT_FILENO) != 0) {
    return UsageError(global, "--output - would write bytes to the terminal: redirect it");
  }
  ModelExport model(options.prefix, options.convention, options.dtype);
  int64_t count = 0;
  const ExitCode collected = Collect(global, options, &model, &count);
  if (collected != ExitCode::kOk) return collected;
  ModelFile file = std::move(model).Finish();
  const size_t tensors = file.tensors.size();
  const absl::Status written =
      WriteSafetensors(options.output_path, std::move(file.tensors), file.metadata);
  if (!written.ok()) return InputError(global, written);
  if (options.output_path == "-") return ExitCode::kOk;
  const bool printed =
      global.json
          ? PrintJson(global,
                      {{"output", options.output_path}, {"states", count}, {"tensors", tensors}})
          : PrintText(global, absl::StrCat(options.output_path, ": ", count, " states, ", tensors,
                                           " tensors\n"));
  return printed ? ExitCode::kOk : ExitCode::kInput;
}

}  // namespace

void AddExportCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "export", "Write the states of a model to one safetensors file",
      "  normctl export resnet50/ --output resnet50.safetensors\n"
      "  normctl export resnet50/ --output resnet50.safetensors --dtype float64    exactly\n"
      "  normctl export resnet50/ --output keras.safetensors --convention keras\n\n"
      "The state resnet50/layer1.0.bn1 becomes the tensors layer1.0.bn1.weight, .bias,\n"
      ".running_mean, .running_var and .num_batches_tracked, as in PyTorch's state_dict; a '/'\n"
      "left in a name becomes '.'. What tensors do not tell (kind, eps, momentum, optimizer)\n"
      "stands in the file's metadata, and 'normctl import' reads it. Optimizer slots, producers\n"
      "and a calibration under way are not exported. No state under PREFIX is exit code 3, and\n"
      "one with a NaN or an infinity, which no import takes, exit code 7: nothing is written.\n"
      "What is written is held in memory until then.");
  const auto options = std::make_shared<ExportOptions>();
  command
      ->add_option("PREFIX", options->prefix,
                   "The states whose names begin with it; it is left out of the tensors' names")
      ->required()
      ->option_text("(required)");
  command
      ->add_option("-o,--output", options->output_path,
                   "The file, written whole or not at all; - is standard output")
      ->required()
      ->option_text("FILE|- (required)");
  command
      ->add_option("--convention", options->convention,
                   "The names of the tensors: weight, bias, running_mean, running_var\n"
                   "(pytorch, default); gamma, beta, moving_mean, moving_variance (keras);\n"
                   "scale, B, input_mean, input_var (onnx)")
      ->transform(CLI::CheckedTransformer(Conventions()))
      ->option_text("pytorch|keras|onnx");
  command
      ->add_option("--dtype", options->dtype,
                   "The type of the tensors (default float32; running statistics are kept in\n"
                   "float64)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, client::DataType>{
          {"float32", client::DataType::kFloat32}, {"float64", client::DataType::kFloat64}}))
      ->option_text("float32|float64");
  command->callback([line, options] {
    line->run = [line, options] { return RunExport(line->global, *options); };
  });
}

}  // namespace normd::cli
