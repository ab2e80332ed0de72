#include "client/cli/bench_report.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::cli {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

BenchResult Result() {
  BenchResult result = {.address = "localhost:7117",
                        .options = {},
                        .load = {},
                        .client_cpu_seconds = 0.5,
                        .tracked_growth = 1500,
                        .tracked_status = absl::OkStatus()};
  result.options.states = 2;
  result.options.threads = 1;
  result.options.seed = 9;
  result.load.seconds = 2;
  for (int i = 0; i < 998; ++i) result.load.latency.Record(100);
  result.load.latency.Record(2'000'000);
  result.load.latency.Record(3'000'000'000);
  result.load.messages = 1000;
  result.load.sent_bytes = 16'000'000;
  result.load.received_bytes = 8'000'000;
  result.load.answered = 1500;
  result.load.acknowledged = 1500;
  result.load.server_cpu_seconds = 0.003;
  return result;
}

TEST(BenchReportTest, TellsPeople) {
  EXPECT_EQ(BenchToText(Result()),
            "train durable: float32 [64,64] to localhost:7117; 1 stream, window 64, 2 states; "
            "1 connection, 1 thread; seed 9\n"
            "messages  1000 in 2.00 s: 500 messages/s\n"
            "bytes     8.00 MB/s sent, 4.00 MB/s received\n"
            "latency   p50 0.10 us, p90 0.10 us, p99 0.10 us, p99.9 2.01 ms, max 3.00 s\n"
            "client    333 us of CPU a message\n"
            "server    2.00 us of CPU a message\n"
            "server    num_batches_tracked grew by 1500, 1500 updates acknowledged: the same\n"
            "errors    0\n");
}

TEST(BenchReportTest, TellsPeopleWhatWentWrong) {
  BenchResult result = Result();
  result.load.acknowledged = 1501;
  result.load.errors = 2;
  result.load.unanswered = 3;
  result.load.first_error = absl::UnavailableError("gone");
  result.load.stopped = true;
  EXPECT_TRUE(CountsDiffer(result));
  const std::string text = BenchToText(result);
  EXPECT_THAT(text, HasSubstr("grew by 1500, 1501 updates acknowledged: DIFFERENT\n"));
  EXPECT_THAT(text, EndsWith("errors    2, 3 messages unanswered; the first: gone\n"
                             "interrupted\n"));
}

TEST(BenchReportTest, TellsPrograms) {
  const nlohmann::ordered_json json = BenchToJson(Result());
  EXPECT_EQ(json["mode"], "train");
  EXPECT_EQ(json["messages"], 1000);
  EXPECT_EQ(json["messages_per_second"], 500);
  EXPECT_EQ(json["sent_bytes_per_second"], 8e6);
  EXPECT_EQ(json["received_bytes_per_second"], 4e6);
  EXPECT_EQ(json["latency_us"]["p50"], 0.1);
  EXPECT_EQ(json["latency_us"]["max"], 3e6);
  EXPECT_NEAR(json["latency_us"]["p99.9"].get<double>(), 2000, 2000.0 / 128);
  EXPECT_EQ(json["server_cpu_us_per_message"], 2);
  EXPECT_EQ(json["num_batches_tracked_growth"], 1500);
  EXPECT_EQ(json["errors"], 0);
  EXPECT_FALSE(json.contains("first_error"));
}

TEST(BenchReportTest, HasNoRatesOfALoadThatEndedAtOnce) {
  BenchResult result = Result();
  result.load = {};
  result.tracked_growth.reset();
  const nlohmann::ordered_json json = BenchToJson(result);
  EXPECT_EQ(json["messages_per_second"], 0);
  EXPECT_EQ(json["client_cpu_us_per_message"], 0);
  EXPECT_FALSE(json.contains("server_cpu_us_per_message"));
  EXPECT_FALSE(json.contains("num_batches_tracked_growth"));
  EXPECT_FALSE(CountsDiffer(result));
}

}  // namespace
}  // namespace normd::cli
