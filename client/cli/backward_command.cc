#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/array_reader.h"
#include "client/cli/array_writer.h"
#include "client/cli/batch_cutter.h"
#include "client/cli/batch_ledger.h"
#include "client/cli/command_line.h"
#include "client/cli/config_json.h"
#include "client/cli/console.h"
#include "client/cli/json_array.h"
#include "client/cli/moments_file.h"
#include "client/cli/output_file.h"
#include "client/cli/status_macros.h"
#include "client/cli/stream_run.h"

namespace normd::cli {
namespace {

struct BackwardOptions {
  StreamOptions stream;  // output_path is that of grad_input
  std::string grad_output_path;
  std::string moments_path;  // empty: none were saved
  std::string grad_weight_path;
  std::string grad_bias_path;
  client::BackwardMode mode = client::BackwardMode::kTrain;
  bool apply = false;
  std::string producer_id;
  int64_t first_sequence = 1;
};

// The gradients of a parameter, summed over mini-batches in their order.
class GradientSum {
 public:
  // A parameter of `size` values; 0: the state does not have it.
  explicit GradientSum(int64_t size) : sum_(static_cast<size_t>(size)) {}

  void Add(const std::vector<double>& gradient) {
    for (size_t i = 0; i < std::min(gradient.size(), sum_.size()); ++i) sum_[i] += gradient[i];
  }

  const std::vector<double>& values() const { return sum_; }

 private:
  std::vector<double> sum_;
};

// What the answers say. Written by the stream's thread, read after it has closed.
struct Gradients {
  GradientSum weight;
  GradientSum bias;
  int64_t applied = 0;
  int64_t duplicate = 0;
  int64_t last_sequence = 0;
  int64_t revision = 0;
  int64_t optimizer_step = 0;

  void Add(const client::BackwardResult& result) {
    last_sequence = result.sequence;
    if (!result.status.ok()) return;
    weight.Add(result.grad_weight);
    bias.Add(result.grad_bias);
    applied += result.disposition == client::Disposition::kApplied;
    duplicate += result.disposition == client::Disposition::kDuplicate;
    revision = result.revision;
    optimizer_step = result.optimizer_step;
  }
};

// Cuts the inputs and the gradients of their outputs alike, and takes the moments saved of each.
class PairCutter {
 public:
  // `moments` is null when none were saved.
  PairCutter(ArrayReader* inputs, ArrayReader* gradients, ArrayReader* moments,
             const CutOptions& cut)
      : inputs_(inputs),
        gradients_(gradients),
        moments_reader_(moments),
        input_cutter_(inputs, cut),
        gradient_cutter_(gradients, cut) {}

  // The next mini-batch of the inputs; gradient() and moments() go with it.
  absl::StatusOr<std::optional<BatchCutter::MiniBatch>> Next() {
    NORMD_CLI_ASSIGN_OR_RETURN(std::optional<BatchCutter::MiniBatch> input, input_cutter_.Next());
    NORMD_CLI_ASSIGN_OR_RETURN(gradient_, gradient_cutter_.Next());
    NORMD_CLI_RETURN_IF_ERROR(CheckBothEnd(input.has_value(), gradients_, gradient_.has_value()));
    if (input.has_value() && input->array.shape != gradient_->array.shape) {
      return absl::InvalidArgumentError(
          absl::StrCat(gradients_->name(), ": ", PlaceToText(input->place), " has shape ",
                       ShapeToText(gradient_->array.shape), ", expected that of ", inputs_->name(),
                       ", ", ShapeToText(input->array.shape)));
    }
    if (moments_reader_ == nullptr) return input;
    NORMD_CLI_ASSIGN_OR_RETURN(const std::optional<SavedMoments> moments,
                               ReadMoments(moments_reader_));
    NORMD_CLI_RETURN_IF_ERROR(
        CheckBothEnd(input.has_value(), moments_reader_, moments.has_value()));
    moments_ = moments.value_or(std::nullopt);
    return input;
  }

  const Array& gradient() const { return gradient_->array; }
  const SavedMoments& moments() const { return moments_; }

 private:
  // OK when the inputs have another mini-batch and `other` has what goes with it, or neither.
  absl::Status CheckBothEnd(bool inputs_go_on, ArrayReader* other, bool other_goes_on) const {
    if (inputs_go_on == other_goes_on) return absl::OkStatus();
    const auto& [longer, shorter] =
        inputs_go_on ? std::pair(inputs_, other) : std::pair(other, inputs_);
    return absl::InvalidArgumentError(
        absl::StrCat(shorter->name(), " ends before ", longer->name(), " does",
                     other == moments_reader_
                         ? ": cut the input as it was when the moments were saved (--batch-size)"
                         : ""));
  }

  ArrayReader* const inputs_;
  ArrayReader* const gradients_;
  ArrayReader* const moments_reader_;
  BatchCutter input_cutter_;
  BatchCutter gradient_cutter_;
  std::optional<BatchCutter::MiniBatch> gradient_;
  SavedMoments moments_;
};

// What the state does not have of what the options ask for.
absl::Status CheckWanted(const BackwardOptions& options, const client::State& state) {
  const client::StateConfig& config = state.config;
  const bool no_weight = !options.grad_weight_path.empty() && !config.affine;
  const bool no_bias = !options.grad_bias_path.empty() && !client::HasBias(config);
  if (!no_weight && !no_bias) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("state '", state.name, "' is a ", KindName(config.kind), " with affine ",
                   config.affine ? "true" : "false", ", so it has no ",
                   no_weight ? "weight" : "bias", " to take a gradient of"));
}

// The files to write. All are opened before anything is sent: a step cannot be taken back. Null for
// those that were not asked for.
struct Outputs {
  std::unique_ptr<ArrayWriter> grad_input;
  std::unique_ptr<ArrayWriter> grad_weight;
  std::unique_ptr<ArrayWriter> grad_bias;
};

// Which two flags want standard input, which can be read once; empty when there are none.
std::string StandardInputFault(const BackwardOptions& options) {
  const std::pair<const char*, const std::string*> inputs[] = {
      {"--input", &options.stream.input_path},
      {"--grad-output", &options.grad_output_path},
      {"--moments", &options.moments_path}};
  const char* first = nullptr;
  for (const auto& [flag, path] : inputs) {
    if (*path != "-") continue;
    if (first != nullptr)
      return absl::StrCat(first, " and ", flag, " cannot both be standard input");
    first = flag;
  }
  return "";
}

absl::StatusOr<Outputs> OpenOutputs(const BackwardOptions& options) {
  Outputs outputs;
  const std::tuple<std::unique_ptr<ArrayWriter>*, const std::string*, ArrayFormat> files[] = {
      {&outputs.grad_input, &options.stream.output_path, FormatOfPath(options.stream.output_path)},
      {&outputs.grad_weight, &options.grad_weight_path, ArrayFormat::kNpy},
      {&outputs.grad_bias, &options.grad_bias_path, ArrayFormat::kNpy}};
  for (const auto& [writer, path, format] : files) {
    if (path->empty()) continue;
    NORMD_CLI_ASSIGN_OR_RETURN(*writer, ArrayWriter::Open(*path, format));
  }
  return outputs;
}

// Puts the files under their names.
absl::Status FinishOutputs(const client::StateConfig& config, const Gradients& gradients,
                           Outputs* outputs) {
  if (outputs->grad_input) NORMD_CLI_RETURN_IF_ERROR(outputs->grad_input->Finish());
  const std::vector<int64_t> shape = config.normalized_shape.empty()
                                         ? std::vector<int64_t>{config.num_features}
                                         : config.normalized_shape;
  for (const auto& [writer, sum] : {std::pair(outputs->grad_weight.get(), &gradients.weight),
                                    std::pair(outputs->grad_bias.get(), &gradients.bias)}) {
    if (writer == nullptr) continue;
    const Array array = MakeArray(shape, sum->values());
    NORMD_CLI_RETURN_IF_ERROR(writer->BeginArray(array.shape, array.dtype));
    NORMD_CLI_RETURN_IF_ERROR(writer->Write(array.bytes));
    NORMD_CLI_RETURN_IF_ERROR(writer->Finish());
  }
  return absl::OkStatus();
}

// `result.status`, or why the grad_input that was asked for cannot be had.
absl::Status StatusOf(const client::BackwardResult& result, bool wants_grad_input) {
  const bool is_duplicate = result.disposition == client::Disposition::kDuplicate;
  if (!result.status.ok() || !is_duplicate || !wants_grad_input) return result.status;
  return absl::FailedPreconditionError(
      "it was applied before, and the parameters that its grad_input is taken by are gone; leave "
      "out --grad-input to apply the rest");
}

nlohmann::ordered_json JsonVector(const std::vector<double>& values) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const double value : values) json.push_back(JsonNumber(value));
  return json;
}

bool PrintSummary(const GlobalOptions& global, const BackwardOptions& options,
                  const std::string& producer_id, const Gradients& gradients,
                  const BatchLedger::Totals& totals) {
  if (!global.json) {
    std::string text =
        absl::StrFormat("%s: gradients of %d mini-batches (%d rows), %d refused\n",
                        options.stream.name, totals.batches, totals.rows, totals.refused);
    if (options.apply && gradients.applied + gradients.duplicate > 0) {
      absl::StrAppendFormat(&text, "%d applied, %d duplicate: optimizer_step %d, revision %d\n",
                            gradients.applied, gradients.duplicate, gradients.optimizer_step,
                            gradients.revision);
    }
    if (gradients.duplicate > 0) {
      absl::StrAppendFormat(&text,
                            "grad_weight and grad_bias are without those of the %d duplicate: the "
                            "parameters they were taken by are gone\n",
                            gradients.duplicate);
    }
    return PrintText(global, text);
  }
  nlohmann::ordered_json json = {{"state", options.stream.name},
                                 {"batches", totals.batches},
                                 {"rows", totals.rows},
                                 {"refused", totals.refused}};
  if (!gradients.weight.values().empty()) {
    json["grad_weight"] = JsonVector(gradients.weight.values());
  }
  if (!gradients.bias.values().empty()) json["grad_bias"] = JsonVector(gradients.bias.values());
  if (options.apply) {
    json["applied"] = gradients.applied;
    json["duplicate"] = gradients.duplicate;
    json["optimizer_step"] = gradients.optimizer_step;
    json["revision"] = gradients.revision;
    json["producer_id"] = producer_id;
    json["last_sequence"] = gradients.last_sequence;
  }
  return PrintJson(global, json);
}

ExitCode RunBackward(const GlobalOptions& global, const BackwardOptions& options) {
  const StreamOptions& stream_options = options.stream;
  if (const std::string fault = TerminalFault(stream_options); !fault.empty()) {
    return UsageError(global, fault);
  }
  if (const std::string fault = OutputFault({{"--grad-input", stream_options.output_path},
                                             {"--grad-weight", options.grad_weight_path},
                                             {"--grad-bias", options.grad_bias_path}});
      !fault.empty()) {
    return UsageError(global, fault);
  }
  if (const std::string fault = StandardInputFault(options); !fault.empty()) {
    return UsageError(global, fault);
  }
  const auto inputs = ArrayReader::Open(stream_options.input_path);
  if (!inputs.ok()) return InputError(global, inputs.status());
  const auto grad_outputs = ArrayReader::Open(options.grad_output_path);
  if (!grad_outputs.ok()) return InputError(global, grad_outputs.status());
  std::unique_ptr<ArrayReader> moments;
  if (!options.moments_path.empty()) {
    auto opened = ArrayReader::Open(options.moments_path);
    if (!opened.ok()) return InputError(global, opened.status());
    moments = *std::move(opened);
  }
  absl::StatusOr<Outputs> outputs = OpenOutputs(options);
  if (!outputs.ok()) return InputError(global, outputs.status());
  const bool wants_grad_input = outputs->grad_input != nullptr;
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  const auto state = (*client)->GetState(stream_options.name, client::StateView::kBasic);
  if (!state.ok()) return ServerError(global, state.status());
  const client::StateConfig& config = state->config;
  if (const absl::Status wanted = CheckWanted(options, *state); !wanted.ok()) {
    return ServerError(global, wanted);
  }

  Gradients gradients{GradientSum(config.affine ? config.num_features : 0),
                      GradientSum(client::HasBias(config) ? config.num_features : 0)};
  BatchLedger ledger(global, absl::StrCat("backward ", stream_options.name),
                     stream_options.keep_going, outputs->grad_input.get());
  client::BackwardStreamOptions backward_options;
  backward_options.producer_id = options.producer_id;
  backward_options.first_sequence = options.first_sequence;
  backward_options.window = stream_options.window;
  backward_options.retry = ToRetryOptions(stream_options);
  backward_options.on_result = [&](const client::BackwardResult& result) {
    gradients.Add(result);
    std::optional<absl::string_view> grad_input;
    if (result.grad_input.has_value()) grad_input = result.grad_input->bytes();
    ledger.AddAnswer(StatusOf(result, wants_grad_input), grad_input);
  };
  // Declared after what its callback uses.
  const auto stream = (*client)->OpenBackwardStream(backward_options);
  if (!stream.ok()) return ServerError(global, stream.status());
  client::BackwardSendOptions send_options;
  send_options.mode = options.mode;
  send_options.return_grad_input = wants_grad_input;
  send_options.apply = options.apply;
  PairCutter cutter(inputs->get(), grad_outputs->get(), moments.get(), stream_options.cut);
  absl::Status closed;
  ExitCode exit_code = FeedStream(
      global, [&cutter] { return cutter.Next(); }, &ledger,
      [&](const BatchCutter::MiniBatch& input) {
        const client::Layout layout = stream_options.cut.layout;
        send_options.moments = cutter.moments();
        ledger.AddSent(input.place);
        return (*stream)
            ->Send(stream_options.name, ToBatch(input.array, layout),
                   ToBatch(cutter.gradient(), layout), send_options)
            .status();
      },
      [&] {
        closed = (*stream)->Close();
        (*stream)->Cancel();
        return closed;
      },
      /*hint=*/"");

  const BatchLedger::Totals totals = ledger.Finish();
  if (exit_code == ExitCode::kOk) exit_code = totals.first_refusal;
  absl::Status output_status = totals.output_status;
  if (exit_code == ExitCode::kOk || stream_options.keep_going) {
    if (output_status.ok()) output_status = FinishOutputs(config, gradients, &*outputs);
  }
  if (!output_status.ok()) exit_code = InputError(global, output_status);
  const std::string& producer_id = (*stream)->producer_id();
  if (!PrintSummary(global, options, producer_id, gradients, totals)) exit_code = ExitCode::kInput;
  // What was sent and not answered may have been applied.
  const bool may_have_applied = gradients.applied + gradients.duplicate > 0 || !closed.ok();
  if (options.apply && may_have_applied && exit_code != ExitCode::kOk) {
    PrintNote(global, absl::StrCat("to go on: the same command",
                                   wants_grad_input ? " without --grad-input, and" : "",
                                   " with --producer-id ", producer_id, " --first-sequence ",
                                   options.first_sequence, " applies only what was not applied"));
  }
  return exit_code;
}

void AddGradientFiles(CLI::App* command, BackwardOptions* options) {
  command
      ->add_option("-g,--grad-output", options->grad_output_path,
                   "Gradient of the loss by the output: arrays of the shapes of --input")
      ->required()
      ->option_text("FILE|- (required)");
  command
      ->add_option("--moments", options->moments_path,
                   "The moments that the forward call returned (train --save-moments), of\n"
                   "mini-batches cut alike: not computed anew from the input. Not used where\n"
                   "the running statistics are")
      ->option_text("FILE|-");
  command
      ->add_option("--grad-input", options->stream.output_path,
                   "Write the gradient by the input, in the order of the input: .npy, or JSON\n"
                   "to a .json file")
      ->option_text("FILE");
  command
      ->add_option("--grad-weight", options->grad_weight_path,
                   "Write the gradient by weight, summed over mini-batches: .npy of float64")
      ->option_text("FILE");
  command->add_option("--grad-bias", options->grad_bias_path, "The same by bias")
      ->option_text("FILE");
}

}  // namespace

void AddBackwardCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "backward", "Take gradients as autograd gives them, and learn by them",
      "  normctl backward resnet/bn1 --input x.npy --grad-output dy.npy --grad-input dx.npy\n"
      "  normctl backward resnet/bn1 --input x.npy --grad-output dy.npy --mode eval \\\n"
      "      --grad-weight dw.npy --grad-bias db.npy\n"
      "  normctl train resnet/bn1 --input x.npy --output y.npy --save-moments m.npy\n"
      "  normctl backward resnet/bn1 --input x.npy --grad-output dy.npy --moments m.npy \\\n"
      "      --grad-input dx.npy\n"
      "  normctl backward resnet/bn1 --input x.npy --grad-output dy.npy --batch-size 32 \\\n"
      "      --apply --producer-id job7\n\n"
      "With --apply every mini-batch steps weight and bias once, by the optimizer of the state,\n"
      "also when the server is restarted meanwhile; a state without one is exit code 5. A\n"
      "mini-batch that was applied before is a duplicate: it steps nothing and has no gradients,\n"
      "as the parameters they were taken by are gone. The sums are without it, and with\n"
      "--grad-input it is refused.");
  const auto options = std::make_shared<BackwardOptions>();
  AddStreamOptions(command, &options->stream);
  AddGradientFiles(command, options.get());
  command
      ->add_option("--mode", options->mode,
                   "How the forward call was made: by the batch's statistics (train,\n"
                   "default) or by the running ones (eval)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, client::BackwardMode>{
          {"train", client::BackwardMode::kTrain}, {"eval", client::BackwardMode::kEval}}))
      ->option_text("train|eval");
  CLI::Option* const apply =
      command->add_flag("--apply", options->apply, "Step weight and bias by the gradients");
  command
      ->add_option("--producer-id", options->producer_id,
                   "Who sends: the same id and sequences again step once\n(default: a random id)")
      ->option_text("ID")
      ->needs(apply);
  command
      ->add_option("--first-sequence", options->first_sequence,
                   "Sequence of the first mini-batch; the next ones count up (default 1).\n"
                   "Batches and gradients of a producer share one numbering")
      ->option_text("N")
      ->check(OneOrMore())
      ->needs(apply);
  command->callback([line, options] {
    line->run = [line, options] { return RunBackward(line->global, *options); };
  });
}

}  // namespace normd::cli
