#include "client/cli/command_line.h"

#include <algorithm>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace normd::cli {
namespace {

constexpr double kTimeoutSecondsMax = 86400;

void AddGlobalOptions(CLI::App* app, GlobalOptions* options) {
  app->add_option(
         "--address", options->address,
         "Server: host:port, [ipv6]:port or unix:/path\n(default: the environment's NORMD_ADDRESS, "
         "or " +
             options->address + ")")
      ->option_text("ADDRESS")
      ->envname("NORMD_ADDRESS");
  app->add_option("--timeout", options->timeout_seconds,
                  "Time to wait for the answer to a call (default 10); for the connection\n"
                  "at most 3 of it")
      ->option_text("SECONDS")
      ->check(SecondsIn(0.001, kTimeoutSecondsMax));
  app->add_flag("--json", options->json, "Print JSON, errors too");
  app->set_version_flag("--version", "normctl " NORMD_VERSION, "Print the version and exit");
}

// Parsing has failed when this is asked, so the arguments are looked at as they are.
bool WantsJson(int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc,
                     [](const char* argument) { return absl::string_view(argument) == "--json"; });
}

// What is wrong. Of a command that it does not know, CLI11 says that one is missing.
std::string ParseErrorText(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  const std::vector<std::string> unknown = app.remaining();
  if (command->get_require_subcommand_min() == 0 || unknown.empty()) return error.what();
  return absl::StrCat("unknown ", absl::StartsWith(unknown.front(), "-") ? "option" : "command",
                      " '", unknown.front(), "'");
}

}  // namespace

CLI::Validator OneOrMore() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        int64_t number = 0;
        if (absl::SimpleAtoi(value, &number) && number >= 1) return "";
        return absl::StrCat("'", value,
                            "' is not a whole number of 1 or more that fits in 64 bits");
      },
      "");
}

CLI::Validator WholeNumber() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        int64_t number = 0;
        if (absl::SimpleAtoi(value, &number)) return "";
        return absl::StrCat("'", value, "' is not a whole number that fits in 64 bits");
      },
      "");
}

CLI::Validator SecondsIn(double min, double max) {
  return CLI::Validator(
      [min, max](const std::string& value) -> std::string {
        double seconds = 0;
        if (absl::SimpleAtod(value, &seconds) && seconds >= min && seconds <= max) return "";
        return absl::StrCat("'", value, "' is not a number of seconds from ", min, " to ", max);
      },
      "");
}

void AddName(CLI::App* command, std::string* name) {
  command->add_option("NAME", *name, "Name of the state")->required()->option_text("(required)");
}

void AddEtag(CLI::App* command, std::string* etag) {
  command->add_option("--etag", *etag, "Refuse unless it is the state's etag (see get)")
      ->option_text("ETAG");
}

CLI::Option* AddCalibrationId(CLI::App* command, std::string* calibration_id) {
  return command
      ->add_option("--calibration-id", *calibration_id,
                   "Refuse unless it is the id of the calibration under way (see get)")
      ->option_text("ID");
}

CLI::App* AddCommand(CLI::App* app, const std::string& name, const std::string& description,
                     const std::string& example) {
  CLI::App* const command = app->add_subcommand(name, description);
  command->footer(absl::StrCat("Example:\n", example));
  command->fallthrough();
  return command;
}

int RunCommandLine(int argc, char** argv) {
  CommandLine line;
  CLI::App app("Creates, trains and reads the normalization states of a normd server.", "normctl");
  AddGlobalOptions(&app, &line.global);
  AddStateWriteCommands(&app, &line);
  AddStateReadCommands(&app, &line);
  AddTrainCommand(&app, &line);
  AddNormalizeCommand(&app, &line);
  AddBackwardCommand(&app, &line);
  AddLearningCommands(&app, &line);
  AddExportCommand(&app, &line);
  AddImportCommand(&app, &line);
  AddWatchCommand(&app, &line);
  AddBenchCommand(&app, &line);
  app.require_subcommand(1);
  app.footer(
      absl::StrCat("Example:\n"
                   "  normctl create resnet/bn1 --num-features 64\n"
                   "  normctl train resnet/bn1 --input batches.npy --batch-size 32\n"
                   "  normctl get resnet/bn1\n\n"
                   "'normctl COMMAND --help' explains a command.\n\n",
                   ExitCodeHelp()));
  try {
    app.parse(argc, argv);
    if (line.global.address.empty()) throw CLI::ValidationError("--address", "is empty");
    return static_cast<int>(line.run());
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    line.global.json = WantsJson(argc, argv);
    return static_cast<int>(UsageError(
        line.global, absl::StrCat(ParseErrorText(app, error), "; see 'normctl --help'")));
  } catch (const std::bad_alloc&) {
    const std::vector<CLI::App*> commands = app.get_subcommands();
    const bool can_cut =
        !commands.empty() && commands.front()->get_option_no_throw("--batch-size") != nullptr;
    return static_cast<int>(InputError(
        line.global,
        absl::ResourceExhaustedError(can_cut ? "out of memory: cut the input with --batch-size"
                                             : "out of memory")));
  }
}

}  // namespace normd::cli
