#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/array_reader.h"
#include "client/cli/array_writer.h"
#include "client/cli/batch_cutter.h"
#include "client/cli/batch_ledger.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/stream_run.h"

namespace normd::cli {
namespace {

// Without --output the values are printed, for people or as JSON.
absl::StatusOr<std::unique_ptr<ArrayWriter>> OpenWriter(const GlobalOptions& global,
                                                        const std::string& output_path) {
  if (!output_path.empty()) return ArrayWriter::Open(output_path, FormatOfPath(output_path));
  return ArrayWriter::Open("-", global.json ? ArrayFormat::kJson : ArrayFormat::kText);
}

ExitCode RunNormalize(const GlobalOptions& global, const StreamOptions& options) {
  if (const std::string fault = TerminalFault(options); !fault.empty()) {
    return UsageError(global, fault);
  }
  const auto reader = ArrayReader::Open(options.input_path);
  if (!reader.ok()) return InputError(global, reader.status());
  const auto writer = OpenWriter(global, options.output_path);
  if (!writer.ok()) return InputError(global, writer.status());
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());

  BatchLedger ledger(global, absl::StrCat("normalize ", options.name), options.keep_going,
                     writer->get());
  client::NormalizeStreamOptions normalize_options;
  normalize_options.window = options.window;
  normalize_options.retry = ToRetryOptions(options);
  normalize_options.on_result = [&ledger](const client::NormalizeResult& result) {
    std::optional<absl::string_view> output;
    if (result.status.ok()) output = result.output.bytes();
    ledger.AddAnswer(result.status, output);
  };
  const auto stream = (*client)->OpenNormalizeStream(normalize_options);
  if (!stream.ok()) return ServerError(global, stream.status());
  BatchCutter cutter(reader->get(), options.cut);
  ExitCode exit_code = FeedStream(
      global, [&cutter] { return cutter.Next(); }, &ledger,
      [&](const BatchCutter::MiniBatch& mini_batch) {
        ledger.AddSent(mini_batch.place);
        return (*stream)
            ->Send(options.name, ToBatch(mini_batch.array, options.cut.layout))
            .status();
      },
      [&] {
        absl::Status closed = (*stream)->Close();
        (*stream)->Cancel();
        return closed;
      },
      "");

  const BatchLedger::Totals totals = ledger.Finish();
  if (exit_code == ExitCode::kOk) exit_code = totals.first_refusal;
  const bool complete = exit_code == ExitCode::kOk || options.keep_going;
  absl::Status output_status = totals.output_status;
  if (output_status.ok() && complete) output_status = (*writer)->Finish();
  return output_status.ok() ? exit_code : InputError(global, output_status);
}

}  // namespace

void AddNormalizeCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "normalize", "Normalize values by the running statistics of a state",
      "  normctl normalize resnet/bn1 --input images.npy --output normalized.npy --batch-size 64\n"
      "  normctl normalize resnet/bn1 --output - < images.npy > normalized.npy\n"
      "  echo '[[1, 2], [3, 4]]' | normctl normalize demo/bn2");
  const auto options = std::make_shared<StreamOptions>();
  AddStreamOptions(command, options.get());
  command
      ->add_option("-o,--output", options->output_path,
                   "Write .npy, or JSON to a .json file; - is standard output (default:\n"
                   "print the values for people, or with --json as nested arrays)")
      ->option_text("FILE|-");
  command->callback([line, options] {
    line->run = [line, options] { return RunNormalize(line->global, *options); };
  });
}

}  // namespace normd::cli
