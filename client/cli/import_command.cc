#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/model_file.h"
#include "client/cli/norm_options.h"
#include "client/cli/progress_bar.h"
#include "client/cli/safetensors.h"

namespace normd::cli {
namespace {

constexpr size_t kNamesPrintedMax = 5;

struct ImportOptions {
  std::string path;
  std::string prefix;
  Convention convention = Convention::kPyTorch;
  NormOptions norm;
  bool overwrite = false;
};

// A state to create, and the etag of the one that it replaces; empty when there is none.
struct Target {
  std::string name;
  std::string etag;
  ModelState state;
};

// Finds out which states are there. Errors: kAlreadyExists that names them, without `overwrite`;
// the server's.
absl::Status FindExisting(client::Client* client, bool overwrite, std::vector<Target>* targets) {
  std::vector<std::string> existing;
  for (Target& target : *targets) {
    const auto there = client->GetState(target.name, client::StateView::kBasic);
    if (absl::IsNotFound(there.status())) continue;
    if (!there.ok()) return there.status();
    target.etag = there->etag;
    existing.push_back(target.name);
  }
  if (existing.empty() || overwrite) return absl::OkStatus();
  const size_t shown = std::min(existing.size(), kNamesPrintedMax);
  return absl::AlreadyExistsError(absl::StrCat(
      existing.size(), " of ", targets->size(), " states are there already: ",
      absl::StrJoin(existing.begin(), existing.begin() + static_cast<ptrdiff_t>(shown), ", "),
      shown < existing.size() ? ", ..." : "", "; nothing was imported; --overwrite replaces them"));
}

absl::Status Put(client::Client* client, const Target& target,
                 const client::InitialValues& initial) {
  client::CreateOptions options;
  options.replace = !target.etag.empty();
  options.etag = target.etag;
  return client->CreateState(target.name, target.state.config, initial, options).status();
}

bool Report(const GlobalOptions& global, const std::vector<Target>& targets,
            int64_t tensors_left_out) {
  if (!global.json) {
    return PrintText(global, absl::StrCat(targets.size(), " states imported, ", tensors_left_out,
                                          " other tensors left out\n"));
  }
  nlohmann::ordered_json json;
  json["states"] = nlohmann::ordered_json::array();
  for (const Target& target : targets) json["states"].push_back(target.name);
  json["tensors_left_out"] = tensors_left_out;
  return PrintJson(global, json);
}

ExitCode RunImport(const GlobalOptions& global, const ImportOptions& options) {
  const auto reader = SafetensorsReader::Open(options.path);
  if (!reader.ok()) return InputError(global, reader.status());
  absl::StatusOr<ModelImport> model =
      ImportModel((*reader)->header(), options.convention, options.norm);
  if (model.ok() && model->states.empty()) {
    model = absl::InvalidArgumentError(
        "no tensors of a norm found: expected names as layer1.0.bn1.running_mean, or choose "
        "--kind and --convention");
  }
  if (!model.ok()) {
    return InputError(
        global,
        Reworded(model.status(), absl::StrCat("'", options.path, "': ", model.status().message())));
  }
  std::vector<Target> targets;
  for (ModelState& state : model->states) {
    std::string name = absl::StrCat(options.prefix, state.module);
    targets.push_back({std::move(name), "", std::move(state)});
  }
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  const absl::Status found = FindExisting(client->get(), options.overwrite, &targets);
  if (!found.ok()) return ServerError(global, found);

  ProgressBar progress_bar(global.json ? nullptr : TerminalForProgress(), "import");
  for (size_t i = 0; i < targets.size(); ++i) {
    const absl::StatusOr<client::InitialValues> initial = ReadInitialValues(
        targets[i].state,
        [&reader](const SafetensorsEntry& entry) { return (*reader)->Read(entry); });
    const absl::Status put =
        initial.ok() ? Put(client->get(), targets[i], *initial) : initial.status();
    if (!put.ok()) {
      progress_bar.Clear();
      const absl::Status told =
          Reworded(put, absl::StrCat("'", targets[i].name, "': ", put.message(), "; ", i, " of ",
                                     targets.size(), " states were imported before it"));
      return initial.ok() ? ServerError(global, told) : InputError(global, told);
    }
    const double fraction = static_cast<double>(i + 1) / static_cast<double>(targets.size());
    progress_bar.Update(Progress{static_cast<int64_t>(i + 1), std::nullopt, fraction, "states"});
  }
  progress_bar.Clear();
  return Report(global, targets, model->tensors_left_out) ? ExitCode::kOk : ExitCode::kInput;
}

// What the convention changes in the options that import shares with create.
void DescribeByConvention(CLI::App* command) {
  command->get_option("--momentum")
      ->description(
          "Weight of the new value in the running statistics, 0 to 1 (default 0.1);\n"
          "with --convention keras and onnx that of the old one (default 0.99, 0.9)");
  command->get_option("--eps")->description(
      "Added to the variance before the square root (default 1e-5; keras:\n"
      "1e-3; rms_norm: the machine epsilon of the batch's dtype)");
  command->get_option("--running-var-correction")
      ->description(
          "Subtracted from the count in running_var: 1 (PyTorch, default) or 0\n"
          "(default of keras and onnx)");
}

}  // namespace

void AddImportCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "import", "Create states from a safetensors file, many at once",
      "  normctl import resnet50.safetensors --prefix resnet50/\n"
      "  normctl import model.safetensors --prefix gpt/ --kind layer_norm --eps 1e-6\n"
      "  normctl import keras.safetensors --prefix k/ --convention keras --momentum 0.95\n\n"
      "Of a file that normctl has exported every state is created with its config. Of another\n"
      "one, batch_norm (the default) takes every module with a running_mean and instance_norm\n"
      "also those with a weight of one axis alone; the other kinds take those with a weight of\n"
      "one axis, or of --normalized-shape, and no running_mean. --convention keras and onnx\n"
      "begin with running-var-correction 0 and momentum 0.99 and 0.9, weighing the old value,\n"
      "and keras with eps 1e-3.\n"
      "When a state is there already nothing is imported and the exit code is 4.");
  const auto options = std::make_shared<ImportOptions>();
  command->add_option("FILE", options->path, "A safetensors file")
      ->required()
      ->option_text("(required)");
  command
      ->add_option("--prefix", options->prefix,
                   "Put before the modules' names: with resnet50/ the module layer1.0.bn1 is\n"
                   "the state resnet50/layer1.0.bn1")
      ->option_text("PREFIX");
  command
      ->add_option("--convention", options->convention,
                   "Whose names the tensors have (see export), and whose direction and\n"
                   "defaults --momentum and --eps have (default pytorch)")
      ->transform(CLI::CheckedTransformer(Conventions()))
      ->option_text("pytorch|keras|onnx");
  command->add_flag("--overwrite", options->overwrite,
                    "Replace states that are there, each under its etag and in one change:\n"
                    "one that is refused stays as it was. What the optimizer and producers\n"
                    "had is gone");
  AddNormOptions(command, &options->norm);
  DescribeByConvention(command);
  command->callback([line, options] {
    line->run = [line, options] { return RunImport(line->global, *options); };
  });
}

}  // namespace normd::cli
