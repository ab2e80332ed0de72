#include "client/cli/bench_options.h"

#include <algorithm>
#include <limits>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/command_line.h"
#include "client/cli/norm_options.h"
#include "client/cli/stream_run.h"

namespace normd::cli {
namespace {

constexpr int64_t kValuesMax = int64_t{1} << 26;
constexpr int64_t kStatesMax = 10'000'000;
constexpr int64_t kStreamsMax = 4096;
constexpr int64_t kWindowMax = 65536;
constexpr int64_t kThreadsMax = 256;
constexpr double kSecondsMax = 86400;

const std::map<std::string, load::Mode>& Modes() {
  static const auto* const kModes =
      new std::map<std::string, load::Mode>{{"train", load::Mode::kTrain},
                                            {"train-moments", load::Mode::kTrainMoments},
                                            {"normalize", load::Mode::kNormalize}};
  return *kModes;
}

void AddCount(CLI::App* command, const std::string& name, int64_t* value, int64_t max,
              const std::string& description) {
  command
      ->add_option(name, *value,
                   absl::StrCat(description, ", 1 to ", max, " (default ", *value, ")"))
      ->option_text("COUNT")
      ->check(CLI::Range(int64_t{1}, max));
}

void AddMessageOptions(CLI::App* command, BenchOptions* options) {
  command
      ->add_option("--mode", options->mode,
                   "What is sent: values to train with (default), moments of values to\n"
                   "train with, or values to normalize")
      ->transform(CLI::CheckedTransformer(Modes()))
      ->option_text("train|train-moments|normalize");
  command
      ->add_option_function<std::string>(
          "--shape",
          [options](const std::string& text) { options->shape = ParseAxes("--shape", text); },
          "Axes of the values in a message (default 64,64: 64 rows of 64 channels)")
      ->option_text("AXES");
  command->add_option("--dtype", options->dtype, "Type of the values (default float32)")
      ->transform(CLI::CheckedTransformer(DataTypes()))
      ->option_text("float16|bfloat16|float32|float64");
  command
      ->add_option("--layout", options->layout,
                   "Where the channel axis stands: axis 1 (default) or the last")
      ->transform(CLI::CheckedTransformer(Layouts()))
      ->option_text("channels-first|channels-last");
  command->add_flag("--no-output", options->no_output,
                    "train: do not ask for the normalized values");
  command
      ->add_option("--durability", options->durability,
                   "train, train-moments: when an update is answered: on disk (durable,\n"
                   "default) or before (relaxed)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, client::Durability>{
          {"durable", client::Durability::kDurable}, {"relaxed", client::Durability::kRelaxed}}))
      ->option_text("durable|relaxed");
  command
      ->add_option("--seed", options->seed,
                   "Of the values and of the order of the states, 0 or more (default: a random\n"
                   "one, which is printed)")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()))
      ->option_text("NUMBER");
}

void AddStateOptions(CLI::App* command, BenchOptions* options) {
  AddCount(command, "--states", &options->states, kStatesMax, "States, one at random a message");
  command
      ->add_option("--prefix", options->prefix,
                   "The states are PREFIX0, PREFIX1, ...; those that are not there are\n"
                   "created, and deleted at the end (default bench/)")
      ->option_text("PREFIX");
  command->add_flag("--existing", options->existing,
                    "train, train-moments: train states that were there before, too, instead of\n"
                    "refusing to");
  command->add_flag("--keep", options->keep, "Do not delete the states that were created");
  command
      ->add_option("--peer", options->peer,
                   "What the server is: normd (default), or any that answers each message\n"
                   "with one: then no states are created and no answers looked into")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, BenchPeer>{{"normd", BenchPeer::kNormd}, {"any", BenchPeer::kAny}}))
      ->option_text("normd|any");
}

void AddLoadOptions(CLI::App* command, BenchOptions* options) {
  AddCount(command, "--streams", &options->streams, kStreamsMax, "Streams");
  AddCount(command, "--window", &options->window, kWindowMax,
           "The most messages of a stream sent and not yet answered");
  AddCount(command, "--channels", &options->channels, kStreamsMax, "Connections");
  AddCount(command, "--threads", &options->threads, kThreadsMax, "Threads that send");
  CLI::Option* const warmup =
      command->add_option("--warmup", options->warmup_seconds, "Time before measuring (default 1)");
  warmup->option_text("SECONDS")->check(SecondsIn(0, kSecondsMax));
  CLI::Option* const duration =
      command->add_option("--duration", options->duration_seconds, "Time to measure (default 5)");
  duration->option_text("SECONDS")->check(SecondsIn(0.001, kSecondsMax));
  command
      ->add_option("--messages", options->messages,
                   "Send so many messages instead, and measure all of them")
      ->option_text("COUNT")
      ->check(OneOrMore())
      ->excludes(warmup)
      ->excludes(duration);
}

}  // namespace

void AddBenchOptions(CLI::App* command, BenchOptions* options) {
  options->threads = std::clamp<int64_t>(std::thread::hardware_concurrency() / 2, 1, kThreadsMax);
  AddMessageOptions(command, options);
  AddStateOptions(command, options);
  AddLoadOptions(command, options);
}

std::string BenchFault(const BenchOptions& options) {
  if (options.shape.size() < 2) return "--shape needs 2 axes or more: samples and channels";
  int64_t values = 1;
  for (const int64_t size : options.shape) {
    if (size < 1 || size > kValuesMax / values) {
      return absl::StrCat("--shape: expected axes of 1 or more and at most ", kValuesMax,
                          " values");
    }
    values *= size;
  }
  return "";
}

client::Batch BenchBatch(const BenchOptions& options) {
  size_t count = 1;
  for (const int64_t size : options.shape) count *= static_cast<size_t>(size);
  std::mt19937_64 random(options.seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  // Values of this size fit every dtype.
  return *client::Convert(client::Batch::Own(options.shape, std::move(values), options.layout),
                          options.dtype);
}

int64_t BenchChannels(const BenchOptions& options) {
  return options.layout == client::Layout::kChannelsFirst ? options.shape[1] : options.shape.back();
}

const char* BenchModeName(load::Mode mode) {
  for (const auto& [name, value] : Modes()) {
    if (value == mode) return name.c_str();
  }
  return "";
}

}  // namespace normd::cli
