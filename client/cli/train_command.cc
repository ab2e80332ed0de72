#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/array_reader.h"
#include "client/cli/array_writer.h"
#include "client/cli/batch_cutter.h"
#include "client/cli/batch_ledger.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/output_file.h"
#include "client/cli/status_macros.h"
#include "client/cli/stream_run.h"
#include "client/cli/text.h"

namespace normd::cli {
namespace {

struct TrainOptions {
  StreamOptions stream;
  bool moments = false;
  std::string save_moments_path;  // empty: they are not wanted
  bool calibrate = false;
  std::string calibration_id;
  client::Durability durability = client::Durability::kDurable;
  std::string producer_id;
  int64_t first_sequence = 1;
};

// What the answers say about the updates. Written by the stream's thread, read after it has closed.
struct Updates {
  int64_t applied = 0;
  int64_t duplicate = 0;
  int64_t last_sequence = 0;
  int64_t revision = 0;
  int64_t num_batches_tracked = 0;
};

void Count(const client::TrainResult& result, Updates* updates) {
  updates->last_sequence = result.sequence;
  if (!result.status.ok()) return;
  ++(result.disposition == client::Disposition::kDuplicate ? updates->duplicate : updates->applied);
  updates->revision = result.revision;
  updates->num_batches_tracked = result.num_batches_tracked;
}

struct Summary {
  std::string state;
  std::string producer_id;
  Updates updates;
  BatchLedger::Totals totals;
  double seconds = 0;
};

nlohmann::ordered_json SummaryToJson(const Summary& summary) {
  return {{"state", summary.state},
          {"applied", summary.updates.applied},
          {"duplicate", summary.updates.duplicate},
          {"refused", summary.totals.refused},
          {"rows", summary.totals.rows},
          {"bytes", summary.totals.bytes},
          {"revision", summary.updates.revision},
          {"num_batches_tracked", summary.updates.num_batches_tracked},
          {"producer_id", summary.producer_id},
          {"last_sequence", summary.updates.last_sequence},
          {"seconds", summary.seconds}};
}

std::string SummaryToText(const Summary& summary) {
  const double seconds = std::max(summary.seconds, 1e-9);
  std::string text = absl::StrFormat(
      "%s: %d mini-batches applied, %d duplicate, %d refused (%d rows) in %.2f s: %s batches/s, "
      "%s MB/s\n",
      summary.state, summary.updates.applied, summary.updates.duplicate, summary.totals.refused,
      summary.totals.rows, summary.seconds,
      FormatRate(static_cast<double>(summary.totals.batches) / seconds),
      FormatRate(static_cast<double>(summary.totals.bytes) / 1e6 / seconds));
  if (summary.updates.applied + summary.updates.duplicate > 0) {
    absl::StrAppendFormat(&text, "revision %d, num_batches_tracked %d\n", summary.updates.revision,
                          summary.updates.num_batches_tracked);
  }
  return text;
}

// Prints the summary: to standard error when the outputs go to standard output.
bool PrintSummary(const GlobalOptions& global, const Summary& summary, bool to_standard_error) {
  if (to_standard_error) {
    const std::string text =
        global.json ? absl::StrCat(SummaryToJson(summary).dump(), "\n") : SummaryToText(summary);
    std::fputs(text.c_str(), stderr);
    return true;
  }
  return global.json ? PrintJson(global, SummaryToJson(summary))
                     : PrintText(global, SummaryToText(summary));
}

absl::Status SendBatch(const TrainOptions& options, client::NormKind kind, bool return_output,
                       const BatchCutter::MiniBatch& mini_batch, client::TrainStream* stream,
                       BatchLedger* ledger) {
  const client::Batch batch = ToBatch(mini_batch.array, options.stream.cut.layout);
  client::SendOptions send_options;
  send_options.calibrate = options.calibrate;
  send_options.calibration_id = options.calibration_id;
  send_options.return_moments = !options.save_moments_path.empty();
  if (options.moments) {
    const absl::StatusOr<client::Moments> moments = client::ComputeMoments(batch, kind);
    if (!moments.ok()) return moments.status();
    ledger->AddSent(mini_batch.place);
    return stream->Send(options.stream.name, *moments, send_options).status();
  }
  send_options.return_output = return_output;
  ledger->AddSent(mini_batch.place);
  return stream->Send(options.stream.name, batch, send_options).status();
}

// The files to write; null for those that were not asked for.
struct Outputs {
  std::unique_ptr<ArrayWriter> values;
  std::unique_ptr<ArrayWriter> moments;
};

absl::StatusOr<Outputs> OpenOutputs(const TrainOptions& options) {
  Outputs outputs;
  if (const std::string& path = options.stream.output_path; !path.empty()) {
    NORMD_CLI_ASSIGN_OR_RETURN(outputs.values, ArrayWriter::Open(path, FormatOfPath(path)));
  }
  if (const std::string& path = options.save_moments_path; !path.empty()) {
    NORMD_CLI_ASSIGN_OR_RETURN(outputs.moments, ArrayWriter::Open(path, ArrayFormat::kNpy));
  }
  return outputs;
}

ExitCode RunTrain(const GlobalOptions& global, const TrainOptions& options) {
  const StreamOptions& stream_options = options.stream;
  const std::string& output_path = stream_options.output_path;
  if (const std::string fault = TerminalFault(stream_options); !fault.empty()) {
    return UsageError(global, fault);
  }
  if (const std::string fault = OutputFault({{"--output", output_path, /*standard_output=*/true},
                                             {"--save-moments", options.save_moments_path}});
      !fault.empty()) {
    return UsageError(global, fault);
  }
  if (FormatOfPath(options.save_moments_path) != ArrayFormat::kNpy) {
    return UsageError(
        global, absl::StrCat("--save-moments writes .npy, got '", options.save_moments_path, "'"));
  }
  const auto reader = ArrayReader::Open(stream_options.input_path);
  if (!reader.ok()) return InputError(global, reader.status());
  absl::StatusOr<Outputs> outputs = OpenOutputs(options);
  if (!outputs.ok()) return InputError(global, outputs.status());
  ArrayWriter* const writer = outputs->values.get();
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  const auto state = (*client)->GetState(stream_options.name, client::StateView::kBasic);
  if (!state.ok()) return ServerError(global, state.status());
  const client::NormKind kind = state->config.kind;
  CutOptions cut = stream_options.cut;
  cut.needs_variance = kind == client::NormKind::kBatchNorm && !stream_options.keep_going;

  const absl::Time start = absl::Now();
  Updates updates;
  BatchLedger ledger(global, absl::StrCat("train ", stream_options.name), stream_options.keep_going,
                     writer, outputs->moments.get());
  client::TrainStreamOptions train_options;
  train_options.producer_id = options.producer_id;
  train_options.first_sequence = options.first_sequence;
  train_options.window = stream_options.window;
  train_options.durability = options.durability;
  train_options.retry = ToRetryOptions(stream_options);
  train_options.on_result = [&](const client::TrainResult& result) {
    Count(result, &updates);
    std::optional<absl::string_view> output;
    if (result.output.has_value()) output = result.output->bytes();
    ledger.AddAnswer(result.status, output, result.moments);
  };
  // Declared after what its callback uses.
  const auto stream = (*client)->OpenTrainStream(train_options);
  if (!stream.ok()) return ServerError(global, stream.status());
  const std::string hint = absl::StrCat(
      "to go on: the same command with --producer-id ", (*stream)->producer_id(),
      " --first-sequence ", options.first_sequence, " applies only what was not applied");
  BatchCutter cutter(reader->get(), cut);
  ExitCode exit_code = FeedStream(
      global, [&cutter] { return cutter.Next(); }, &ledger,
      [&](const BatchCutter::MiniBatch& batch) {
        return SendBatch(options, kind, writer != nullptr, batch, stream->get(), &ledger);
      },
      [&] {
        absl::Status closed = (*stream)->Close();
        (*stream)->Cancel();
        return closed;
      },
      hint);

  Summary summary;
  summary.state = stream_options.name;
  summary.producer_id = (*stream)->producer_id();
  summary.updates = updates;
  summary.totals = ledger.Finish();
  summary.seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (exit_code == ExitCode::kOk) exit_code = summary.totals.first_refusal;
  const bool complete = exit_code == ExitCode::kOk || stream_options.keep_going;
  absl::Status output_status = summary.totals.output_status;
  for (const auto& output : {outputs->values.get(), outputs->moments.get()}) {
    if (output != nullptr && output_status.ok() && complete) output_status = output->Finish();
  }
  if (!output_status.ok()) exit_code = InputError(global, output_status);
  if (writer != nullptr && summary.totals.outputs_missing > 0) {
    PrintNote(global, absl::StrCat("the output has NaN for ", summary.totals.outputs_missing,
                                   " mini-batches that were applied before"));
    if (exit_code == ExitCode::kOk) exit_code = ExitCode::kError;
  }
  if (outputs->moments != nullptr && summary.totals.moments_missing > 0) {
    PrintNote(global, absl::StrCat("the moments of ", summary.totals.moments_missing,
                                   " mini-batches that were applied before were not returned; "
                                   "backward computes them anew"));
  }
  if (!PrintSummary(global, summary, output_path == "-")) return ExitCode::kInput;
  return exit_code;
}

}  // namespace

void AddTrainCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "train", "Train a state with mini-batches",
      "  normctl train resnet/bn1 --input batches.npy --batch-size 32\n"
      "  normctl train resnet/bn1 --input batch.npy --output normalized.npy\n"
      "  normctl train resnet/bn1 --input x.npy --output y.npy --save-moments m.npy\n"
      "  normctl train resnet/bn1 --moments --durability relaxed < batches.npy\n"
      "  normctl train resnet/bn1 --input batches.npy --batch-size 32 --dtype bfloat16\n"
      "  normctl train resnet/bn1 --input batches.npy --batch-size 32 --calibrate\n"
      "  echo '[[1, 2], [3, 4]]' | normctl train demo/bn2\n\n"
      "Every update is applied exactly once, also when the server is restarted meanwhile. After a\n"
      "mini-batch was refused no other is sent; up to --window later ones may have been on their\n"
      "way and be applied. The exit code is that of the first refusal, also with --keep-going.");
  const auto options = std::make_shared<TrainOptions>();
  AddStreamOptions(command, &options->stream);
  command->add_flag("--drop-last", options->stream.cut.drop_last,
                    "Leave out a last mini-batch with fewer rows");
  CLI::Option* const epochs =
      command
          ->add_option("--epochs", options->stream.cut.epochs,
                       "Read the whole input so often (default 1); not from a pipe")
          ->option_text("COUNT")
          ->check(OneOrMore());
  CLI::Option* const moments =
      command->add_flag("--moments", options->moments,
                        "Compute the moments of each mini-batch here and send these alone;\n"
                        "of batch_norm and instance_norm");
  CLI::Option* const calibrate =
      command->add_flag("--calibrate", options->calibrate,
                        "Contribute to the calibration under way (see calibrate) instead of the\n"
                        "running statistics");
  AddCalibrationId(command, &options->calibration_id)->needs(calibrate);
  command
      ->add_option("-o,--output", options->stream.output_path,
                   "Write the mini-batches, normalized by their own statistics, in the\n"
                   "order of the input: .npy, or JSON to a .json file; - is standard output")
      ->option_text("FILE|-")
      ->excludes(moments)
      ->excludes(epochs);
  command
      ->add_option("--save-moments", options->save_moments_path,
                   "Write the moments of each mini-batch for backward --moments: one .npy of\n"
                   "float64 after another, of shape (3, M) for the M sets that it was\n"
                   "normalized by: their count, mean and m2")
      ->option_text("FILE")
      ->excludes(epochs);
  command
      ->add_option("--durability", options->durability,
                   "When an update is answered: on disk (durable, default) or before\n"
                   "(relaxed); the command ends when all are on disk")
      ->transform(CLI::CheckedTransformer(std::map<std::string, client::Durability>{
          {"durable", client::Durability::kDurable}, {"relaxed", client::Durability::kRelaxed}}))
      ->option_text("durable|relaxed");
  command
      ->add_option("--producer-id", options->producer_id,
                   "Who sends: the same id and sequences again are applied once\n"
                   "(default: a random id)")
      ->option_text("ID");
  command
      ->add_option("--first-sequence", options->first_sequence,
                   "Sequence of the first mini-batch; the next ones count up (default 1)")
      ->option_text("N")
      ->check(OneOrMore());
  command->callback([line, options] {
    line->run = [line, options] { return RunTrain(line->global, *options); };
  });
}

}  // namespace normd::cli
