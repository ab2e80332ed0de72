#ifndef NORMD_CLIENT_CLI_COMMAND_LINE_H_
#define NORMD_CLIENT_CLI_COMMAND_LINE_H_

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "client/cli/console.h"
#include "client/cli/exit_code.h"

namespace normd::cli {

// What parsing fills in.
struct CommandLine {
  GlobalOptions global;
  std::function<ExitCode()> run;  // the command that was given
};

// Adds a command with an example for the foot of its help.
CLI::App* AddCommand(CLI::App* app, const std::string& name, const std::string& description,
                     const std::string& example);

// Adds the NAME of a state, --etag, and --calibration-id.
void AddName(CLI::App* command, std::string* name);
void AddEtag(CLI::App* command, std::string* etag);
CLI::Option* AddCalibrationId(CLI::App* command, std::string* calibration_id);

// Check that a whole number is 1 or more, or just one, and fits in an int64.
CLI::Validator OneOrMore();
CLI::Validator WholeNumber();

// Check that a number of seconds lies in [min, max]; "nan" does not, which CLI::Range lets pass.
CLI::Validator SecondsIn(double min, double max);

// Each adds commands to `app` that set `line->run`. `line` must outlive `app`.
void AddStateReadCommands(CLI::App* app, CommandLine* line);   // get, list
void AddStateWriteCommands(CLI::App* app, CommandLine* line);  // create, delete, update, ...
void AddTrainCommand(CLI::App* app, CommandLine* line);
void AddNormalizeCommand(CLI::App* app, CommandLine* line);
void AddBackwardCommand(CLI::App* app, CommandLine* line);
void AddLearningCommands(CLI::App* app, CommandLine* line);  // apply-gradients, calibrate
void AddExportCommand(CLI::App* app, CommandLine* line);
void AddImportCommand(CLI::App* app, CommandLine* line);
void AddWatchCommand(CLI::App* app, CommandLine* line);
void AddBenchCommand(CLI::App* app, CommandLine* line);

// Runs normctl with main's arguments and returns what the process ends with.
int RunCommandLine(int argc, char** argv);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_COMMAND_LINE_H_
