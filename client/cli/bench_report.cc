#include "client/cli/bench_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/text.h"

namespace normd::cli {
namespace {

constexpr std::pair<const char*, double> kPercentiles[] = {
    {"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}};

double Rate(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

// Microseconds a message.
double CpuMicroseconds(double cpu_seconds, const BenchResult& result) {
  if (result.load.answered == 0) return 0;
  return 1e6 * cpu_seconds / static_cast<double>(result.load.answered);
}

std::string FormatDuration(double nanoseconds) {
  constexpr const char* kUnits[] = {"us", "ms", "s"};
  double value = nanoseconds / 1000;
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.*f %s", value < 10 ? 2 : (value < 100 ? 1 : 0), value, kUnits[unit]);
}

std::string Count(int64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

const char* LayoutName(client::Layout layout) {
  return layout == client::Layout::kChannelsFirst ? "channels-first" : "channels-last";
}

const char* DurabilityName(client::Durability durability) {
  return durability == client::Durability::kDurable ? "durable" : "relaxed";
}

}  // namespace

bool CountsDiffer(const BenchResult& result) {
  return result.tracked_growth.has_value() && *result.tracked_growth != result.load.acknowledged;
}

std::string BenchToText(const BenchResult& result) {
  const BenchOptions& options = result.options;
  const load::LoadReport& load = result.load;
  const bool is_training = options.mode != load::Mode::kNormalize;
  std::string text = absl::StrFormat(
      "%s%s: %s [%s] to %s; %s, window %d, %s; %s, %s; seed %u\n", BenchModeName(options.mode),
      is_training ? absl::StrCat(" ", DurabilityName(options.durability)) : "",
      client::DataTypeName(options.dtype), absl::StrJoin(options.shape, ","), result.address,
      Count(options.streams, "stream"), options.window, Count(options.states, "state"),
      Count(options.channels, "connection"), Count(options.threads, "thread"), options.seed);
  absl::StrAppendFormat(&text, "messages  %d in %.2f s: %s messages/s\n", load.messages,
                        load.seconds, FormatRate(Rate(load.messages, load.seconds)));
  absl::StrAppendFormat(&text, "bytes     %s MB/s sent, %s MB/s received\n",
                        FormatRate(1e-6 * Rate(load.sent_bytes, load.seconds)),
                        FormatRate(1e-6 * Rate(load.received_bytes, load.seconds)));
  absl::StrAppend(&text, "latency   ");
  for (const auto& [name, percent] : kPercentiles) {
    absl::StrAppend(&text, name, " ",
                    FormatDuration(static_cast<double>(load.latency.Percentile(percent))), ", ");
  }
  absl::StrAppend(&text, "max ", FormatDuration(static_cast<double>(load.latency.max())), "\n");
  const auto append_cpu = [&](absl::string_view whose, double seconds) {
    absl::StrAppend(&text, whose, FormatDuration(1000 * CpuMicroseconds(seconds, result)),
                    " of CPU a message\n");
  };
  append_cpu("client    ", result.client_cpu_seconds);
  if (load.server_cpu_seconds.has_value()) append_cpu("server    ", *load.server_cpu_seconds);
  if (result.tracked_growth.has_value()) {
    absl::StrAppend(&text, "server    num_batches_tracked grew by ", *result.tracked_growth, ", ",
                    load.acknowledged,
                    " updates acknowledged: ", CountsDiffer(result) ? "DIFFERENT" : "the same",
                    "\n");
  }
  absl::StrAppend(&text, "errors    ", load.errors);
  if (load.unanswered > 0) absl::StrAppend(&text, ", ", load.unanswered, " messages unanswered");
  if (load.errors > 0) absl::StrAppend(&text, "; the first: ", load.first_error.message());
  return absl::StrCat(text, "\n", load.stopped ? "interrupted\n" : "");
}

nlohmann::ordered_json BenchToJson(const BenchResult& result) {
  const BenchOptions& options = result.options;
  const load::LoadReport& load = result.load;
  nlohmann::ordered_json latency = {{"mean", load.latency.Mean() / 1000}};
  for (const auto& [name, percent] : kPercentiles) {
    latency[name] = static_cast<double>(load.latency.Percentile(percent)) / 1000;
  }
  latency["max"] = static_cast<double>(load.latency.max()) / 1000;
  nlohmann::ordered_json json = {
      {"mode", BenchModeName(options.mode)},
      {"address", result.address},
      {"shape", options.shape},
      {"dtype", std::string(client::DataTypeName(options.dtype))},
      {"layout", LayoutName(options.layout)},
      {"durability", DurabilityName(options.durability)},
      {"states", options.states},
      {"streams", options.streams},
      {"window", options.window},
      {"channels", options.channels},
      {"threads", options.threads},
      {"seed", options.seed},
      {"seconds", load.seconds},
      {"messages", load.messages},
      {"messages_per_second", Rate(load.messages, load.seconds)},
      {"sent_bytes_per_second", Rate(load.sent_bytes, load.seconds)},
      {"received_bytes_per_second", Rate(load.received_bytes, load.seconds)},
      {"latency_us", std::move(latency)},
      {"client_cpu_us_per_message", CpuMicroseconds(result.client_cpu_seconds, result)},
      {"answered", load.answered},
      {"acknowledged", load.acknowledged},
      {"unanswered", load.unanswered},
      {"errors", load.errors},
      {"interrupted", load.stopped}};
  if (load.errors > 0) json["first_error"] = std::string(load.first_error.message());
  if (load.server_cpu_seconds.has_value()) {
    json["server_cpu_us_per_message"] = CpuMicroseconds(*load.server_cpu_seconds, result);
  }
  if (result.tracked_growth.has_value()) {
    json["num_batches_tracked_growth"] = *result.tracked_growth;
  }
  return json;
}

}  // namespace normd::cli
