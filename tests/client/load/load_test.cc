#include "client/load/load.h"

#include <atomic>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client/cpp/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_normalization_service.h"

namespace normd::load {
namespace {

using ::normd::client::FakeNormalizationService;
using ::testing::HasSubstr;
using Action = FakeNormalizationService::Action;
using Message = FakeNormalizationService::Message;

class LoadTest : public testing::Test {
 protected:
  LoadOptions Messages(int64_t messages) {
    LoadOptions options;
    options.address = server_.address();
    options.messages = messages;
    return options;
  }

  static RequestOptions Requests(Mode mode) {
    return {.mode = mode,
            .states = {"a", "b", "c"},
            .batch = client::Batch::Own({2, 2}, std::vector<float>{1, 2, 3, 4}),
            .producer_prefix = "p",
            .seed = 7};
  }

  // Runs a load that begins.
  static LoadReport Run(const LoadOptions& options, Mode mode) {
    const auto source = RequestSource::Make(Requests(mode));
    auto report = RunLoad(options, *source, [](const LoadProgress&) { return true; });
    EXPECT_TRUE(report.ok()) << report.status();
    return *std::move(report);
  }

  FakeNormalizationService server_;
};

TEST_F(LoadTest, SendsWhatWasAskedForAndMeasuresAllOfIt) {
  std::set<std::string> states;
  server_.OnMessage([&](const Message& message) {
    states.insert(message.state);
    return Action::kAnswer;
  });
  for (const Mode mode : {Mode::kTrain, Mode::kTrainMoments, Mode::kNormalize}) {
    const int64_t messages_before = server_.messages();
    const int64_t streams_before = server_.streams();
    states.clear();
    LoadOptions options = Messages(100);
    options.streams = 3;
    options.window = 8;
    options.threads = 2;
    options.channels = 2;
    const LoadReport report = Run(options, mode);
    EXPECT_EQ(report.messages, 100);
    EXPECT_EQ(report.answered, 100);
    EXPECT_EQ(report.acknowledged, 100);
    EXPECT_EQ(report.unanswered, 0);
    EXPECT_EQ(report.errors, 0) << report.first_error;
    EXPECT_EQ(report.latency.count(), 100);
    EXPECT_GT(report.latency.max(), 0);
    EXPECT_GT(report.seconds, 0);
    EXPECT_GT(report.sent_bytes, 100 * 16);
    EXPECT_GT(report.received_bytes, 0);
    EXPECT_FALSE(report.server_cpu_seconds.has_value());  // this server does not tell
    EXPECT_FALSE(report.stopped);
    EXPECT_EQ(server_.messages() - messages_before, 100);
    EXPECT_EQ(server_.streams() - streams_before, 3);
    EXPECT_THAT(states, testing::ElementsAre("a", "b", "c"));
  }
  EXPECT_LE(server_.outstanding_max(), 8);
}

TEST_F(LoadTest, SendsNoUpdateThatIsADuplicate) {
  LoadOptions options = Messages(60);
  options.streams = 4;
  EXPECT_EQ(Run(options, Mode::kTrainMoments).acknowledged, 60);
  EXPECT_EQ(server_.duplicates(), 0);
  size_t applied = 0;
  for (const char* const state : {"a", "b", "c"}) applied += server_.Applied(state).size();
  EXPECT_EQ(applied, 60);
}

TEST_F(LoadTest, OneInFlightIsOneAtATime) {
  LoadOptions options = Messages(20);
  options.window = 1;
  EXPECT_EQ(Run(options, Mode::kNormalize).messages, 20);
  EXPECT_EQ(server_.outstanding_max(), 1);
}

TEST_F(LoadTest, StreamsWithoutAMessageEndToo) {
  LoadOptions options = Messages(2);
  options.streams = 5;
  const LoadReport report = Run(options, Mode::kNormalize);
  EXPECT_EQ(report.messages, 2);
  EXPECT_EQ(report.errors, 0) << report.first_error;
}

TEST_F(LoadTest, CountsErrorsInPlaceAndGoesOn) {
  server_.OnMessage([](const Message& message) {
    return message.number % 4 == 0 ? Action::kRefuse : Action::kAnswer;
  });
  LoadReport report = Run(Messages(40), Mode::kTrain);
  EXPECT_EQ(report.messages, 40);
  EXPECT_EQ(report.acknowledged, 30);
  EXPECT_EQ(report.errors, 10);
  EXPECT_EQ(client::ErrorReason(report.first_error), "NON_FINITE_VALUE");

  LoadOptions options = Messages(40);
  options.check_answers = false;
  report = Run(options, Mode::kTrain);
  EXPECT_EQ(report.errors, 0);
  EXPECT_EQ(report.acknowledged, 40);
}

TEST_F(LoadTest, TellsThatAStreamWasLost) {
  server_.OnMessage([](const Message& message) {
    return message.number == 5 ? Action::kDropBefore : Action::kAnswer;
  });
  LoadOptions options = Messages(40);
  options.window = 4;
  const LoadReport report = Run(options, Mode::kTrain);
  EXPECT_EQ(report.errors, 1);
  EXPECT_EQ(report.first_error.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(report.acknowledged, 4);
  EXPECT_GE(report.unanswered, 1);
  EXPECT_LE(report.unanswered, 4);
}

TEST_F(LoadTest, IsBrokenOffWhenNoAnswerComes) {
  server_.HoldAnswers(true);
  LoadOptions options = Messages(40);
  options.window = 4;
  options.answer_timeout = absl::Milliseconds(200);
  const LoadReport report = Run(options, Mode::kTrain);
  EXPECT_EQ(report.unanswered, 4);
  EXPECT_EQ(report.messages, 0);
  EXPECT_EQ(report.errors, 1);
  EXPECT_EQ(report.first_error.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(report.first_error.message()), HasSubstr("4 messages were not answered"));
}

TEST_F(LoadTest, EndsWhenToldWithEverythingAnswered) {
  LoadOptions options = Messages(0);
  options.warmup = absl::ZeroDuration();
  options.duration = absl::Hours(1);
  const auto source = RequestSource::Make(Requests(Mode::kNormalize));
  const auto report = RunLoad(options, *source, [](const LoadProgress& progress) {
    EXPECT_LT(progress.fraction, 0.5);
    return progress.messages == 0;
  });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->stopped);
  EXPECT_GT(report->messages, 0);
  EXPECT_EQ(report->unanswered, 0);
  EXPECT_EQ(report->errors, 0) << report->first_error;
  EXPECT_EQ(report->answered, server_.messages());
}

TEST_F(LoadTest, MeasuresOnlyWhatIsAnsweredBetweenWarmUpAndEnd) {
  LoadOptions options = Messages(0);
  options.warmup = absl::Milliseconds(100);
  options.duration = absl::Milliseconds(300);
  const LoadReport report = Run(options, Mode::kNormalize);
  EXPECT_GT(report.messages, 0);
  EXPECT_LT(report.messages, report.answered);
  EXPECT_LE(report.seconds, 0.3);
  EXPECT_EQ(report.answered, server_.messages());
}

TEST_F(LoadTest, TellsThatTheServerIsNotThere) {
  server_.Stop();
  LoadOptions options = Messages(1);
  options.connect_timeout = absl::Milliseconds(200);
  const auto source = RequestSource::Make(Requests(Mode::kTrain));
  const auto report = RunLoad(options, *source, [](const LoadProgress&) { return true; });
  EXPECT_EQ(report.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr(server_.address()));
}

TEST(RequestSourceTest, RefusesABatchWithoutMoments) {
  const auto source =
      RequestSource::Make({.mode = Mode::kTrainMoments,
                           .states = {"a"},
                           .batch = client::Batch::Own({2}, std::vector<float>{1, 2}),
                           .producer_prefix = ""});
  EXPECT_EQ(client::ErrorReason(source.status()), "RANK_UNSUPPORTED");
}

}  // namespace
}  // namespace normd::load
