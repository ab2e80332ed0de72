#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/array_reader.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/state_report.h"

namespace normd::cli {
namespace {

struct ApplyOptions {
  std::string name;
  std::string grad_weight_path;
  std::string grad_bias_path;
  std::string producer_id;
  int64_t sequence = 0;
};

struct CalibrateOptions {
  std::string name;
  std::string etag;
  std::string calibration_id;
  client::CalibrationMethod method = client::CalibrationMethod::kMeanOfBatches;
};

const char* DispositionName(client::Disposition disposition) {
  return disposition == client::Disposition::kDuplicate ? "duplicate" : "applied";
}

ExitCode ReportStep(const GlobalOptions& global, const client::ApplyResult& result) {
  const char* const disposition = DispositionName(result.disposition);
  const bool printed =
      global.json ? PrintJson(global, {{"state", result.state},
                                       {"disposition", disposition},
                                       {"revision", result.revision},
                                       {"optimizer_step", result.optimizer_step}})
                  : PrintText(global, absl::StrCat(result.state, " gradients ", disposition,
                                                   " (optimizer_step ", result.optimizer_step,
                                                   ", revision ", result.revision, ")\n"));
  return printed ? ExitCode::kOk : ExitCode::kInput;
}

ExitCode RunApply(const GlobalOptions& global, const ApplyOptions& options) {
  if (options.grad_weight_path.empty() && options.grad_bias_path.empty()) {
    return UsageError(global, "nothing to apply: give --grad-weight, --grad-bias or both");
  }
  std::vector<double> values[2];
  std::optional<absl::Span<const double>> gradients[2];
  const std::string* const paths[2] = {&options.grad_weight_path, &options.grad_bias_path};
  for (size_t i = 0; i < 2; ++i) {
    if (paths[i]->empty()) continue;
    absl::StatusOr<std::vector<double>> read = ReadValuesFile(*paths[i]);
    if (!read.ok()) return InputError(global, read.status());
    values[i] = *std::move(read);
    gradients[i] = values[i];
  }
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  client::ApplyOptions apply;
  apply.producer_id = options.producer_id;
  apply.sequence = options.sequence;
  const auto result = (*client)->ApplyGradients(options.name, gradients[0], gradients[1], apply);
  if (!result.ok()) return ServerError(global, result.status());
  return ReportStep(global, *result);
}

void AddApply(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "apply-gradients", "Step weight and bias by gradients, by the state's optimizer",
      "  normctl apply-gradients resnet/bn1 --grad-weight dw.npy --grad-bias db.npy\n"
      "  normctl apply-gradients resnet/bn1 --grad-weight dw.npy --producer-id job --sequence 7\n\n"
      "With --producer-id and --sequence, the same command again steps nothing twice. A gradient\n"
      "that is not given leaves its parameter as it is. A state without an optimizer is exit code "
      "5.");
  const auto options = std::make_shared<ApplyOptions>();
  AddName(command, &options->name);
  command
      ->add_option("--grad-weight", options->grad_weight_path,
                   "Gradient of the loss by weight, C values, .npy or JSON; - is standard input")
      ->option_text("FILE|-");
  command
      ->add_option("--grad-bias", options->grad_bias_path, "Gradient of the loss by bias, C values")
      ->option_text("FILE|-");
  CLI::Option* const producer =
      command->add_option("--producer-id", options->producer_id, "Who sends the gradients");
  producer->option_text("ID");
  CLI::Option* const sequence = command->add_option(
      "--sequence", options->sequence, "The producer's number of this step, above all before it");
  sequence->option_text("N")->check(OneOrMore())->needs(producer);
  producer->needs(sequence);
  command->callback([line, options] {
    line->run = [line, options] { return RunApply(line->global, *options); };
  });
}

// Adds calibrate NAME's subcommand `name`, which makes one call and reports the state.
template <typename Call>
CLI::App* AddCalibration(CLI::App* calibrate, CommandLine* line,
                         const std::shared_ptr<CalibrateOptions>& options, const std::string& name,
                         const std::string& description, const std::string& verb, Call call) {
  CLI::App* const command = AddCommand(calibrate, name, description,
                                       absl::StrCat("  normctl calibrate ", name, " resnet/bn1"));
  AddName(command, &options->name);
  AddEtag(command, &options->etag);
  command->callback([line, options, verb, call] {
    line->run = [line, options, verb, call] {
      const auto client = Connect(line->global);
      if (!client.ok()) return ServerError(line->global, client.status());
      const absl::StatusOr<client::State> state = call(client->get(), *options);
      const bool begun = state.ok() && state->calibration.has_value();
      return ReportState(
          line->global, state,
          begun ? absl::StrCat(verb, ", id ", state->calibration->calibration_id) : verb);
    };
  });
  return command;
}

void AddCalibrate(CLI::App* app, CommandLine* line) {
  CLI::App* const calibrate = AddCommand(
      app, "calibrate", "Replace the running statistics by precise ones of chosen batches",
      "  normctl calibrate begin resnet/bn1 --method pooled\n"
      "  normctl train resnet/bn1 --input batches.npy --batch-size 32 --calibrate\n"
      "  normctl calibrate commit resnet/bn1\n\n"
      "Any number of clients may contribute between begin and commit; the old statistics serve\n"
      "until the commit. `begin` and `get` show the calibration's id: with --calibration-id, "
      "train,\n"
      "commit and abort mean no other. A commit without a contribution, or without begin, is exit\n"
      "code 5.");
  calibrate->require_subcommand(1);
  const auto options = std::make_shared<CalibrateOptions>();
  CLI::App* const begin = AddCalibration(
      calibrate, line, options, "begin", "Begin to gather statistics", "calibration begun",
      [](client::Client* client, const CalibrateOptions& given) {
        return client->BeginCalibration(given.name, given.method, given.etag);
      });
  begin
      ->add_option("--method", options->method,
                   "What a commit makes of the batches: the mean of their means and\n"
                   "variances, as torch's update_bn (default), or mean and variance of all\n"
                   "values together (batch_norm alone)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, client::CalibrationMethod>{
          {"mean-of-batches", client::CalibrationMethod::kMeanOfBatches},
          {"pooled", client::CalibrationMethod::kPooled}}))
      ->option_text("mean-of-batches|pooled");
  AddCalibrationId(AddCalibration(calibrate, line, options, "commit",
                                  "Make what was gathered the running statistics, at once",
                                  "calibration committed",
                                  [](client::Client* client, const CalibrateOptions& given) {
                                    return client->CommitCalibration(
                                        given.name, given.calibration_id, given.etag);
                                  }),
                   &options->calibration_id);
  AddCalibrationId(AddCalibration(calibrate, line, options, "abort", "Forget what was gathered",
                                  "calibration aborted",
                                  [](client::Client* client, const CalibrateOptions& given) {
                                    return client->AbortCalibration(
                                        given.name, given.calibration_id, given.etag);
                                  }),
                   &options->calibration_id);
}

}  // namespace

void AddLearningCommands(CLI::App* app, CommandLine* line) {
  AddApply(app, line);
  AddCalibrate(app, line);
}

}  // namespace normd::cli
