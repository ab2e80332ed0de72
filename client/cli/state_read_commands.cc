#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/array_writer.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/state_text.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

constexpr size_t kChannelsShown = 20;
constexpr int32_t kPageSize = 1000;

struct GetOptions {
  std::string name;
  bool all = false;
  std::string output_directory;
};

struct ListOptions {
  std::string prefix;
  int64_t limit = std::numeric_limits<int64_t>::max();
};

absl::Status WriteTensors(const std::string& directory, const client::State& state) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("'", directory, "': cannot create: ", error.message()));
  }
  const auto write = [&directory](const char* name, const std::vector<int64_t>& shape,
                                  const std::vector<double>& values, client::DataType dtype) {
    if (values.empty()) return absl::OkStatus();
    NORMD_CLI_ASSIGN_OR_RETURN(const Array array, Convert(MakeArray(shape, values), dtype));
    return WriteNpyFile(absl::StrCat(directory, "/", name, ".npy"), array);
  };
  const client::StateConfig& config = state.config;
  const std::vector<int64_t> channels = {config.num_features};
  const std::vector<int64_t> parameters =
      config.normalized_shape.empty() ? channels : config.normalized_shape;
  constexpr client::DataType kStatsDtype = client::DataType::kFloat64;
  NORMD_CLI_RETURN_IF_ERROR(write("weight", parameters, state.weight, config.parameter_dtype));
  NORMD_CLI_RETURN_IF_ERROR(write("bias", parameters, state.bias, config.parameter_dtype));
  NORMD_CLI_RETURN_IF_ERROR(write("running_mean", channels, state.running_mean, kStatsDtype));
  return write("running_var", channels, state.running_var, kStatsDtype);
}

ExitCode RunGet(const GlobalOptions& global, const GetOptions& options) {
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  const absl::StatusOr<client::State> state = (*client)->GetState(options.name);
  if (!state.ok()) return ServerError(global, state.status());
  if (!options.output_directory.empty()) {
    const absl::Status written = WriteTensors(options.output_directory, *state);
    if (!written.ok()) return InputError(global, written);
  }
  const size_t channels_max = options.all ? std::numeric_limits<size_t>::max() : kChannelsShown;
  const bool printed = global.json ? PrintJson(global, StateToJson(*state))
                                   : PrintText(global, StateToText(*state, channels_max));
  return printed ? ExitCode::kOk : ExitCode::kInput;
}

ExitCode RunList(const GlobalOptions& global, const ListOptions& options) {
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  client::ListOptions list_options;
  list_options.prefix = options.prefix;
  list_options.page_size = static_cast<int32_t>(std::min<int64_t>(options.limit, kPageSize));
  client::StateLister lister = (*client)->ListAllStates(std::move(list_options));
  std::vector<client::State> states;
  while (static_cast<int64_t>(states.size()) < options.limit) {
    absl::StatusOr<std::optional<client::State>> state = lister.Next();
    if (!state.ok()) return ServerError(global, state.status());
    if (!state->has_value()) break;
    states.push_back(**std::move(state));
  }
  bool printed = false;
  if (global.json) {
    nlohmann::ordered_json json;
    json["states"] = nlohmann::ordered_json::array();
    for (const client::State& state : states) json["states"].push_back(StateToJson(state));
    json["damaged"] = lister.damaged();
    printed = PrintJson(global, json);
  } else {
    printed = PrintText(global, StatesToText(states));
    for (const std::string& name : lister.damaged()) {
      PrintNote(global, absl::StrCat("the record of '", name, "' is damaged"));
    }
  }
  return printed ? ExitCode::kOk : ExitCode::kInput;
}

}  // namespace

void AddStateReadCommands(CLI::App* app, CommandLine* line) {
  {
    CLI::App* const command = AddCommand(
        app, "get", "Print a state: config, counters, parameters and running statistics",
        "  normctl get resnet/bn1\n"
        "  normctl get resnet/bn1 --json          every number exactly\n"
        "  normctl get resnet/bn1 --output dump   also writes dump/weight.npy and so on");
    const auto options = std::make_shared<GetOptions>();
    command->add_option("NAME", options->name, "Name of the state")
        ->required()
        ->option_text("(required)");
    command->add_flag("--all", options->all,
                      absl::StrCat("Show every channel, not the first ", kChannelsShown));
    command
        ->add_option("--output", options->output_directory,
                     "Folder to write weight.npy, bias.npy (float32), running_mean.npy and\n"
                     "running_var.npy (float64) to")
        ->option_text("FOLDER");
    command->callback([line, options] {
      line->run = [line, options] { return RunGet(line->global, *options); };
    });
  }
  CLI::App* const command =
      AddCommand(app, "list", "List the states in the order of their names",
                 "  normctl list resnet/                   names that begin with resnet/\n"
                 "  normctl list --json --limit 10");
  const auto options = std::make_shared<ListOptions>();
  command->add_option("PREFIX", options->prefix, "Only names that begin with it")->option_text(" ");
  command->add_option("--limit", options->limit, "At most so many states (default: all)")
      ->option_text("COUNT")
      ->check(OneOrMore());
  command->callback(
      [line, options] { line->run = [line, options] { return RunList(line->global, *options); }; });
}

}  // namespace normd::cli
