// The flags of the real binary: what it prints and how it ends.
#include "server/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tests/testing/temp_dir.h"

namespace normd::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Ended {
  int code = -1;
  std::string output;  // standard output and error, unless only one was asked for
};

constexpr char kBothOutputs[] = "2>&1";
constexpr char kStandardError[] = "2>&1 >/dev/null";

// Runs normd to its end, for a minute at most (code 124), with `variables` in its environment.
// REQUIRES: `arguments` have no quotes.
Ended RunNormd(const std::vector<std::string>& arguments, const char* outputs = kBothOutputs,
               const char* variables = "") {
  std::string command = absl::StrCat(variables, " timeout 60 " NORMD_SERVER_BINARY);
  for (const std::string& argument : arguments) absl::StrAppend(&command, " '", argument, "'");
  absl::StrAppend(&command, " ", outputs, " </dev/null");
  Ended ended;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return ended;
  char buffer[4096];
  while (const size_t size = std::fread(buffer, 1, sizeof(buffer), pipe)) {
    ended.output.append(buffer, size);
  }
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) ended.code = WEXITSTATUS(status);
  return ended;
}

// RocksDB's own has no use for the processor's instructions (core/store/rocksdb_checksum.cc).
TEST(BinaryTest, RocksdbComputesItsChecksumsByOurs) {
  const Ended ended = RunNormd({"--version"}, kBothOutputs, "LD_DEBUG=bindings LD_BIND_NOW=1");
  EXPECT_EQ(ended.code, 0);
  std::vector<std::string> bindings;
  for (const absl::string_view line : absl::StrSplit(ended.output, '\n')) {
    if (absl::StrContains(line, "rocksdb6crc32c6Extend")) bindings.emplace_back(line);
  }
  EXPECT_THAT(bindings,
              Contains(AllOf(HasSubstr("librocksdb"), HasSubstr("to " NORMD_SERVER_BINARY " "))));
}

// As the binary reads its command line.
std::variant<ServerOptions, ExitNow> Parse(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"normd"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseOptions(static_cast<int>(argv.size()), argv.data());
}

ServerOptions MustParse(const std::vector<std::string>& arguments) {
  const auto parsed = Parse(arguments);
  if (const auto* options = std::get_if<ServerOptions>(&parsed)) return *options;
  ADD_FAILURE() << "refused: " << absl::StrJoin(arguments, " ");
  return {};
}

// Every flag, and what --help puts behind it: the unit with the range, and the default. A new one
// is added here, a removed one breaks somebody's start script.
const std::map<std::string, std::string> kFlags = {
    {"--accept-data-loss", ""},
    {"--cache-bytes", "SIZE in [1MiB - 1048576GiB]=1GiB"},
    {"--relaxed-commit-delay", "DURATION in [0 - 1m]=5ms"},
    {"--serving-threads", absl::StrCat("COUNT in [1 - 256]=", DefaultServingThreads())},
    {"--compute-threads", absl::StrCat("COUNT in [1 - 256]=", DefaultComputeThreads())},
    {"--data-dir", "FOLDER=normd-data"},
    {"--drain-timeout", "DURATION in [0 - 1h]=20s"},
    {"--flagfile", "FILE"},
    {"--help", ""},
    {"--listen", "ADDRESS=[127.0.0.1:7117]"},
    {"--loader-threads", "COUNT in [1 - 64]=4"},
    {"--log-level", "trace|debug|info|warning|error=info"},
    {"--memory-bytes-max", "SIZE in [32MiB - 1048576GiB]=4GiB"},
    {"--message-bytes-max", "SIZE in [64KiB - 512MiB]=64MiB"},
    {"--page-size-max", "COUNT in [1 - 1000]=1000"},
    {"--port-file", "FILE"},
    {"--producer-age-max", "DURATION in [0 - 8760h]=24h"},
    {"--producers-max", "COUNT in [1 - 65536]=1024"},
    {"--store", "rocksdb|memory=rocksdb"},
    {"--store-cache-bytes", "SIZE in [0B - 1048576GiB]=64MiB"},
    {"--store-reserved-bytes", "SIZE in [0B - 1048576GiB]=256MiB"},
    {"--store-write-buffer-bytes", "SIZE in [1MiB - 1048576GiB]=64MiB"},
    {"--stream-bytes-max", "SIZE in [64KiB - 1048576GiB]=128MiB"},
    {"--stream-messages-max", "COUNT in [1 - 4096]=128"},
    {"--stream-window-bytes", "SIZE in [0B - 1GiB]=0B"},
    {"--streams-max", "COUNT in [1 - 1073741824]=1024"},
    {"--version", ""},
    {"--watch-pending-states-max", "COUNT in [1 - 1073741824]=4096"},
    {"--watches-max", "COUNT in [1 - 1073741824]=1024"},
    {"--write-queue-bytes-max", "SIZE in [1MiB - 1048576GiB]=256MiB"},
    {"--write-queue-updates-max", "COUNT in [1 - 1073741824]=65536"},
    {"--write-shards", "COUNT in [1 - 64]=1"},
};

TEST(OptionsTest, HelpTellsUnitRangeAndDefaultOfEveryFlag) {
  const Ended help = RunNormd({"--help"});
  EXPECT_EQ(help.code, 0);
  std::map<std::string, std::string> flags;
  for (absl::string_view line : absl::StrSplit(help.output, '\n')) {
    if (!absl::ConsumePrefix(&line, "  ")) continue;
    absl::ConsumePrefix(&line, "-h,");
    if (!absl::StartsWith(line, "--")) continue;
    // What it is for stands behind two spaces, or on the next line.
    const absl::string_view head = line.substr(0, line.find("  "));
    const std::pair<std::string, std::string> words = absl::StrSplit(head, absl::MaxSplits(' ', 1));
    flags.insert(words);
  }
  EXPECT_EQ(flags, kFlags) << help.output;
}

TEST(OptionsTest, HelpTellsUnitsAndExitCodes) {
  const std::string help = RunNormd({"--help"}).output;
  for (const char* text : {"units B, KiB, MiB, GiB (powers of 1024)", "durations take ms, s, m, h",
                           "Exit codes: 0 drained", "1 cannot start", "2 wrong usage", "70 the"}) {
    EXPECT_THAT(help, HasSubstr(text));
  }
}

TEST(OptionsTest, VersionIsPrinted) {
  const Ended version = RunNormd({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.output, HasSubstr(absl::StrCat("normd ", NORMD_VERSION)));
}

struct BadFlag {
  std::string flag;
  std::string value;
};

void PrintTo(const BadFlag& bad, std::ostream* stream) { *stream << bad.flag << "=" << bad.value; }

class BadFlagTest : public ::testing::TestWithParam<BadFlag> {};

TEST_P(BadFlagTest, ExitsWithTwoAndNamesTheFlagOnStandardError) {
  const Ended ended =
      RunNormd({absl::StrCat(GetParam().flag, "=", GetParam().value)}, kStandardError);
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr(GetParam().flag));
}

INSTANTIATE_TEST_SUITE_P(
    Values, BadFlagTest,
    ::testing::Values(
        BadFlag{"--no-such-flag", "1"}, BadFlag{"--store", "paper"}, BadFlag{"--log-level", "loud"},
        BadFlag{"--log-level", "critical"}, BadFlag{"--log-level", "INFO"},
        BadFlag{"--cache-bytes", "1"}, BadFlag{"--cache-bytes", "-1MiB"},
        BadFlag{"--cache-bytes", "many"}, BadFlag{"--cache-bytes", "1MiBs"},
        BadFlag{"--cache-bytes", ""}, BadFlag{"--cache-bytes", "99999999999999999999"},
        BadFlag{"--cache-bytes", "9999999999GiB"}, BadFlag{"--message-bytes-max", "63KiB"},
        BadFlag{"--message-bytes-max", "513MiB"}, BadFlag{"--streams-max", "0"},
        BadFlag{"--streams-max", "-1"}, BadFlag{"--streams-max", "1.5"},
        BadFlag{"--streams-max", "x"}, BadFlag{"--stream-messages-max", "4097"},
        BadFlag{"--page-size-max", "1001"}, BadFlag{"--write-shards", "65"},
        BadFlag{"--loader-threads", "0"}, BadFlag{"--compute-threads", "0"},
        BadFlag{"--compute-threads", "257"}, BadFlag{"--producers-max", "65537"},
        BadFlag{"--producer-age-max", "1"}, BadFlag{"--producer-age-max", "-1s"},
        BadFlag{"--drain-timeout", "2h"}, BadFlag{"--drain-timeout", "soon"},
        BadFlag{"--drain-timeout", "inf"}, BadFlag{"--store-write-buffer-bytes", "1KiB"},
        BadFlag{"--write-queue-bytes-max", "1KiB"}, BadFlag{"--memory-bytes-max", "1MiB"},
        BadFlag{"--memory-bytes-max", "256MiB"}));

TEST(OptionsTest, TakesTheLevelsOfTheLogAndNamesThemForAnother) {
  for (const char* level : {"trace", "debug", "info", "warning", "error"}) {
    EXPECT_EQ(MustParse({absl::StrCat("--log-level=", level)}).log_level, level);
  }
  EXPECT_THAT(RunNormd({"--log-level=critical"}, kStandardError).output,
              HasSubstr("'critical' is none of trace, debug, info, warning, error"));
}

TEST(OptionsTest, TakesSizesAndDurationsWithUnits) {
  const ServerOptions options = MustParse(
      {"--cache-bytes=3MiB", "--message-bytes-max=64KiB", "--stream-bytes-max=1048576",
       "--write-queue-bytes-max=2GiB", "--producer-age-max=90m", "--drain-timeout=1500ms"});
  EXPECT_EQ(options.cache_bytes, 3 * kMiB);
  EXPECT_EQ(options.message_bytes_max, 64 * kKiB);
  EXPECT_EQ(options.stream_bytes_max, 1048576);
  EXPECT_EQ(options.write_queue_bytes_max, 2 * kGiB);
  EXPECT_EQ(options.producer_age_max, absl::Minutes(90));
  EXPECT_EQ(options.drain_timeout, absl::Milliseconds(1500));
}

TEST(OptionsTest, DefaultsAreThoseOfTheLimits) {
  const ServerOptions options = MustParse({});
  EXPECT_THAT(options.listen, ElementsAre("127.0.0.1:7117"));
  EXPECT_EQ(options.store, ServerOptions::Store::kRocksdb);
  EXPECT_EQ(options.cache_bytes, kDefaultCacheBytes);
  EXPECT_EQ(options.memory_bytes_max, kDefaultMemoryBytes);
  EXPECT_EQ(options.message_bytes_max, kDefaultMessageBytes);
  EXPECT_EQ(options.producers_max, kDefaultProducers);
  EXPECT_EQ(options.compute_threads, DefaultComputeThreads());
  EXPECT_EQ(options.drain_timeout, kDefaultDrainTimeout);
  EXPECT_FALSE(options.accept_data_loss);
}

TEST(OptionsTest, TheStoreMustLeaveMemory) {
  const Ended ended = RunNormd({"--memory-bytes-max=100MiB", "--store-cache-bytes=10MiB"});
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("--memory-bytes-max"));
  EXPECT_THAT(ended.output, HasSubstr("'100MiB' is less than 234MiB"));
  EXPECT_THAT(ended.output, HasSubstr("--store-write-buffer-bytes"));
  EXPECT_EQ(MustParse({"--memory-bytes-max=100MiB", "--store-write-buffer-bytes=16MiB",
                       "--store-cache-bytes=20MiB"})
                .memory_bytes_max,
            100 * kMiB);
  EXPECT_EQ(MustParse({"--memory-bytes-max=32MiB", "--store=memory"}).memory_bytes_max, 32 * kMiB);
}

TEST(OptionsTest, CountsTheMemoryOfTheStore) {
  ServerOptions options =
      MustParse({"--store-write-buffer-bytes=8MiB", "--store-cache-bytes=7MiB"});
  EXPECT_EQ(StoreMemoryBytes(options), 31 * kMiB);
  options.store = ServerOptions::Store::kMemory;
  EXPECT_EQ(StoreMemoryBytes(options), 0);
}

TEST(OptionsTest, ComputesWithOneThreadACore) {
  EXPECT_EQ(DefaultComputeThreads(),
            std::min<int64_t>(std::thread::hardware_concurrency(), kComputeThreadsMax));
  EXPECT_EQ(MustParse({"--compute-threads=256"}).compute_threads, 256);
}

TEST(OptionsTest, ListenMayBeRepeated) {
  EXPECT_THAT(MustParse({"--listen=127.0.0.1:1", "--listen", "unix:/tmp/a"}).listen,
              ElementsAre("127.0.0.1:1", "unix:/tmp/a"));
}

class FlagFileTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& text) const {
    const std::string path = folder_.path() + "/flags";
    std::ofstream(path) << text;
    return "--flagfile=" + path;
  }

 private:
  TempDir folder_;
};

TEST_F(FlagFileTest, IsReadAndTheCommandLineWins) {
  const std::string flag = Write(
      "# The cache.\n"
      "cache-bytes=256MiB\n"
      "store=memory\n"
      "listen=127.0.0.1:1\n"
      "accept-data-loss=true\n"
      "drain-timeout=3s\n"
      "streams-max=5\n");
  const ServerOptions options = MustParse({flag, "--streams-max=6"});
  EXPECT_EQ(options.cache_bytes, 256 * kMiB);
  EXPECT_EQ(options.store, ServerOptions::Store::kMemory);
  EXPECT_THAT(options.listen, ElementsAre("127.0.0.1:1"));
  EXPECT_TRUE(options.accept_data_loss);
  EXPECT_EQ(options.drain_timeout, absl::Seconds(3));
  EXPECT_EQ(options.streams_max, 6);
}

TEST_F(FlagFileTest, OneThatIsNotThereIsRefusedByName) {
  const Ended ended = RunNormd({"--flagfile=/no/such/file"});
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("/no/such/file"));
}

TEST_F(FlagFileTest, AnUnknownKeyIsRefusedByName) {
  const Ended ended = RunNormd({Write("cache-bytes=256MiB\ncache-byte=256MiB\n")});
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("cache-byte"));
}

TEST_F(FlagFileTest, ABadValueIsRefusedByName) {
  const Ended ended = RunNormd({Write("streams-max=lots\n")});
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("streams-max"));
}

TEST(OptionsTest, CannotStartExitsWithOneAndTellsWhy) {
  const Ended folder = RunNormd({"--data-dir=/proc/nothing/here", "--listen=127.0.0.1:0"});
  EXPECT_EQ(folder.code, 1) << folder.output;
  EXPECT_THAT(folder.output, HasSubstr("/proc/nothing"));
  const Ended address = RunNormd({"--store=memory", "--listen=127.0.0.1:99999"});
  EXPECT_EQ(address.code, 1) << address.output;
  EXPECT_THAT(address.output, HasSubstr("127.0.0.1:99999"));
}

}  // namespace
}  // namespace normd::testing
