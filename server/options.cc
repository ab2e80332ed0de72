#include "server/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace normd {
namespace {

constexpr char kVersion[] = "normd " NORMD_VERSION;

constexpr char kFooter[] = R"(
Sizes take the units B, KiB, MiB, GiB (powers of 1024); durations take ms, s, m, h. A flag file has
one flag a line, without dashes: cache-bytes=256MiB

Exit codes: 0 drained after SIGTERM or SIGINT; 1 cannot start; 2 wrong usage; 70 the store failed
and what is on disk must be read anew (start again).

Example: normd --listen=0.0.0.0:7117 --listen=unix:/run/normd.sock --data-dir=/var/lib/normd)";

// "64MiB": in the largest unit that divides it.
std::string FormatBytes(int64_t bytes) {
  constexpr std::pair<int64_t, absl::string_view> kUnits[] = {
      {kGiB, "GiB"}, {kMiB, "MiB"}, {kKiB, "KiB"}};
  for (const auto& [size, unit] : kUnits) {
    if (bytes >= size && bytes % size == 0) return absl::StrCat(bytes / size, unit);
  }
  return absl::StrCat(bytes, "B");
}

std::string ParseBytes(std::string value, int64_t min, int64_t max, int64_t& variable) {
  const std::string given = value;
  int64_t bytes = 0;
  try {
    const std::string error = CLI::AsSizeValue(/*kb_is_1000=*/false)(value);
    if (error.empty() && absl::SimpleAtoi(value, &bytes) && bytes >= min && bytes <= max) {
      variable = bytes;
      return "";
    }
  } catch (const CLI::Error&) {
    // A number too large for any type; told below.
  }
  return absl::StrCat("'", given, "' is not a size of ", FormatBytes(min), " to ",
                      FormatBytes(max));
}

class Parser {
 public:
  Parser()
      : app_(
            "normd keeps named normalization states (Batch, Layer, Group, Instance, RMS norm): it\n"
            "learns running statistics from streamed mini-batches, and weight and bias from\n"
            "gradients, as PyTorch does, keeps them safe on disk, and serves eval-mode\n"
            "normalization from them.") {
    app_.footer(kFooter);
    app_.set_version_flag("--version", kVersion);
    app_.set_config("--flagfile", "", "Read flags from this file; the command line wins")
        ->type_name("FILE");
    app_.allow_config_extras(CLI::config_extras_mode::error);
    app_.get_formatter()->column_width(34);
  }

  CLI::App& app() { return app_; }

  CLI::Option* Add(const std::string& flag, auto& variable, const std::string& text) {
    return app_.add_option(flag, variable, text)->capture_default_str()->group(group_);
  }
  // A flag whose value `parse` takes, or tells what is wrong with it.
  void AddChecked(const std::string& flag, const std::string& default_text,
                  const std::string& type_name, const std::string& text,
                  std::function<std::string(const std::string&)> parse) {
    const auto checked = [flag, parse = std::move(parse)](const std::string& value) {
      if (const std::string error = parse(value); !error.empty()) {
        throw CLI::ValidationError(flag, error);
      }
    };
    app_.add_option_function<std::string>(flag, checked, text)
        ->default_str(default_text)
        ->type_name(type_name)
        ->group(group_);
  }
  void AddChoice(const std::string& flag, std::string& variable,
                 const std::vector<std::string>& choices, const std::string& text) {
    AddChecked(flag, variable, absl::StrJoin(choices, "|"), text,
               [&variable, choices](const std::string& value) -> std::string {
                 if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
                   return absl::StrCat("'", value, "' is none of ", absl::StrJoin(choices, ", "));
                 }
                 variable = value;
                 return "";
               });
  }
  void AddCount(const std::string& flag, int64_t& variable, int64_t min, int64_t max,
                const std::string& text) {
    AddChecked(flag, absl::StrCat(variable), absl::StrCat("COUNT in [", min, " - ", max, "]"), text,
               [&variable, min, max](const std::string& value) -> std::string {
                 int64_t count = 0;
                 if (!absl::SimpleAtoi(value, &count) || count < min || count > max) {
                   return absl::StrCat("'", value, "' is not a count of ", min, " to ", max);
                 }
                 variable = count;
                 return "";
               });
  }
  void AddBytes(const std::string& flag, int64_t& variable, int64_t min, int64_t max,
                const std::string& text) {
    AddChecked(flag, FormatBytes(variable),
               absl::StrCat("SIZE in [", FormatBytes(min), " - ", FormatBytes(max), "]"), text,
               [&variable, min, max](const std::string& value) {
                 return ParseBytes(value, min, max, variable);
               });
  }
  void AddDuration(const std::string& flag, absl::Duration& variable, absl::Duration max,
                   const std::string& text) {
    AddChecked(flag, absl::FormatDuration(variable),
               absl::StrCat("DURATION in [0 - ", absl::FormatDuration(max), "]"), text,
               [&variable, max](const std::string& value) -> std::string {
                 absl::Duration parsed;
                 if (!absl::ParseDuration(value, &parsed) || parsed < absl::ZeroDuration() ||
                     parsed > max) {
                   return absl::StrCat("'", value, "' is not a duration of 0 to ",
                                       absl::FormatDuration(max));
                 }
                 variable = parsed;
                 return "";
               });
  }
  void Group(const std::string& group) { group_ = group; }

 private:
  CLI::App app_;
  std::string group_;
};

void AddFlags(Parser& parser, ServerOptions& options) {
  constexpr int64_t kBytesMax = int64_t{1} << 50;
  constexpr int64_t kCountMax = int64_t{1} << 30;

  parser.Group("Serving");
  parser
      .Add("--listen", options.listen,
           "Address to serve on: HOST:PORT (port 0: a free one) or unix:PATH; may be repeated")
      ->type_name("ADDRESS")
      ->expected(1, 64)
      ->take_all();
  parser
      .Add("--port-file", options.port_file,
           "Write the bound addresses to this file, one a line, once they are served")
      ->type_name("FILE");
  parser.AddChoice("--log-level", options.log_level, {"trace", "debug", "info", "warning", "error"},
                   "Lowest level that is logged to standard error");
  parser.AddDuration("--drain-timeout", options.drain_timeout, absl::Hours(1),
                     "How long SIGTERM waits for the streams to end");

  parser.Group("Storage");
  parser.AddChecked("--store", "rocksdb", "rocksdb|memory",
                    "Where states are kept; memory forgets them at the end",
                    [&options](const std::string& value) -> std::string {
                      if (value != "rocksdb" && value != "memory") {
                        return absl::StrCat("'", value, "' is not rocksdb or memory");
                      }
                      options.store = value == "memory" ? ServerOptions::Store::kMemory
                                                        : ServerOptions::Store::kRocksdb;
                      return "";
                    });
  parser.Add("--data-dir", options.data_dir, "Folder of the states; made when it is not there")
      ->type_name("FOLDER");
  parser.app()
      .add_flag("--accept-data-loss", options.accept_data_loss,
                "Open a damaged data folder although acknowledged updates are lost")
      ->group("Storage");
  parser.AddBytes(
      "--store-write-buffer-bytes", options.store_write_buffer_bytes, kStoreWriteBufferBytesMin,
      kBytesMax, "Writes held in memory before they go to a table; recovery reads four times that");
  parser.AddBytes("--store-cache-bytes", options.store_cache_bytes, 0, kBytesMax,
                  "Memory for blocks of the store's tables, beside --cache-bytes");
  parser.AddBytes(
      "--store-reserved-bytes", options.store_reserved_bytes, 0, kBytesMax,
      "Disk space (a quarter of the disk at most) that is left free: a commit that would "
      "use it is refused with STORE_FULL");
  parser.AddBytes("--cache-bytes", options.cache_bytes, kCacheBytesMin, kBytesMax,
                  "Memory for states; those not used lately are read from the store again");
  parser.AddCount("--loader-threads", options.loader_threads, 1, kLoaderThreadsMax,
                  "Threads that read states from the store");

  parser.Group("Writing");
  parser.AddCount("--write-shards", options.write_shards, 1, kWriteShardsMax,
                  "Threads that commit; the states are divided among them");
  parser.AddCount("--write-queue-updates-max", options.write_queue_updates_max, 1, kCountMax,
                  "Updates that may wait for the disk; more are refused with WRITE_QUEUE_FULL");
  parser.AddBytes("--write-queue-bytes-max", options.write_queue_bytes_max, kMiB, kBytesMax,
                  "Memory of changed states that wait for the disk");
  parser.AddDuration(
      "--relaxed-commit-delay", options.relaxed_commit_delay, absl::Minutes(1),
      "How long RELAXED updates wait for each other, before they go to disk and to readers, while "
      "no DURABLE one asks for a commit");
  parser.AddCount("--producers-max", options.producers_max, 1, kProducersMax,
                  "Producers that a state remembers; more are refused with PRODUCER_TABLE_FULL");
  parser.AddDuration("--producer-age-max", options.producer_age_max, absl::Hours(24 * 365),
                     "A producer silent for longer may be forgotten to make room");

  parser.Group("Computing");
  parser.AddCount("--compute-threads", options.compute_threads, 1, kComputeThreadsMax,
                  "Threads that share the work on a large batch; by default one a core");
  parser.AddCount(
      "--serving-threads", options.serving_threads, 1, kServingThreadsMax,
      "Threads that serve calls; all but one rest while there is little to do; by default one "
      "a core, at least two");

  parser.Group("Limits");
  parser.AddBytes("--memory-bytes-max", options.memory_bytes_max, kMemoryBytesMin, kBytesMax,
                  "Memory for everything: the store's buffers, states, changes, requests and "
                  "answers, watches; each has its share");
  parser.AddBytes(
      "--message-bytes-max", options.message_bytes_max, kMessageBytesMin, kMessageBytesMax,
      "Largest request; one above it is refused with MESSAGE_TOO_LARGE, one above twice "
      "it ends its call");
  parser.AddCount("--streams-max", options.streams_max, 1, kCountMax,
                  "Tensor streams open at a time; more are refused with LIMIT_REACHED");
  parser.AddCount("--stream-messages-max", options.stream_messages_max, 1, kStreamMessagesMax,
                  "Requests of one stream in hand at a time; beyond it the stream is not read");
  parser.AddBytes("--stream-bytes-max", options.stream_bytes_max, kMessageBytesMin, kBytesMax,
                  "Bytes of one stream in hand at a time; beyond it the stream is not read");
  parser.AddBytes("--stream-window-bytes", options.stream_window_bytes, 0, kStreamWindowBytesMax,
                  "Bytes that a client may send before they are read; 0: as many as gRPC estimates "
                  "that the connection holds. A fixed window is faster for messages of 1 MiB and "
                  "more, and slower for small ones");
  parser.AddCount("--watches-max", options.watches_max, 1, kCountMax,
                  "WatchStates streams open at a time; more are refused with LIMIT_REACHED");
  parser.AddCount("--watch-pending-states-max", options.watch_pending_states_max, 1, kCountMax,
                  "Changed states that wait for one slow watcher; beyond it, it is told that it "
                  "missed some");
  parser.AddCount("--page-size-max", options.page_size_max, 1, kPageSizeMax,
                  "States on one page of ListStates");
}

// Throws when flags that are right alone do not go together.
void CheckTogether(const ServerOptions& options) {
  const int64_t store_bytes = StoreMemoryBytes(options);
  if (options.memory_bytes_max - store_bytes < kMemoryBytesMin) {
    throw CLI::ValidationError(
        "--memory-bytes-max",
        absl::StrCat("'", FormatBytes(options.memory_bytes_max), "' is less than ",
                     FormatBytes(store_bytes + kMemoryBytesMin), ": the store takes ",
                     FormatBytes(store_bytes), " (", kStoreWriteBuffers,
                     " times --store-write-buffer-bytes, and --store-cache-bytes) and must leave ",
                     FormatBytes(kMemoryBytesMin)));
  }
}

}  // namespace

int64_t DefaultComputeThreads() {
  return std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, kComputeThreadsMax);
}

int64_t DefaultServingThreads() {
  return std::clamp<int64_t>(std::thread::hardware_concurrency(), 2, kServingThreadsMax);
}

int64_t StoreMemoryBytes(const ServerOptions& options) {
  if (options.store == ServerOptions::Store::kMemory) return 0;
  return kStoreWriteBuffers * options.store_write_buffer_bytes + options.store_cache_bytes;
}

std::variant<ServerOptions, ExitNow> ParseOptions(int argc, const char* const* argv) {
  ServerOptions options;
  Parser parser;
  AddFlags(parser, options);
  try {
    parser.app().parse(argc, argv);
    CheckTogether(options);
  } catch (const CLI::ParseError& error) {
    return ExitNow{parser.app().exit(error) == 0 ? 0 : kExitUsage};
  }
  return options;
}

}  // namespace normd
