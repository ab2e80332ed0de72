// The tensor streams as a transport: order, pipelining, back-pressure, limits, and clients that go
// away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::MatchesRegex;

class StreamTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }
};

// Writes `count` messages from a thread of its own while this one reads: what a client with many
// messages in flight does. Ends the stream.
void Pipeline(grpc::ClientReaderWriter<v1::TrainRequest, v1::TrainResponse>& stream, int count,
              const std::function<v1::TrainRequest(int)>& request,
              const std::function<void(int, const v1::TrainResponse&)>& check) {
  std::thread writer([&] {
    for (int i = 0; i < count; ++i) {
      if (!stream.Write(request(i))) break;
    }
    stream.WritesDone();
  });
  int responses = 0;
  v1::TrainResponse response;
  while (stream.Read(&response)) check(responses++, response);
  writer.join();
  const grpc::Status status = stream.Finish();
  EXPECT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(responses, count);
}

TEST_F(StreamTest, CarriesManyStatesAndHundredsOfMessagesInOrder) {
  constexpr int kStates = 7;
  constexpr int kMessages = 700;
  for (int i = 0; i < kStates; ++i) MustCreate(absl::StrCat("m", i), 1);
  TestContext context;
  Pipeline(
      *data_->StreamTrain(&context), kMessages,
      [](int i) {
        v1::TrainRequest request = PairBatch(absl::StrCat("m", i % kStates), 0, 2);
        request.set_producer_id("p");
        request.set_sequence(i + 1);
        request.set_return_output(i % 3 == 0);
        return request;
      },
      [](int i, const v1::TrainResponse& response) {
        ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
        EXPECT_EQ(response.sequence(), i + 1);
        EXPECT_EQ(response.num_batches_tracked(), i / kStates + 1);
        EXPECT_EQ(response.has_output(), i % 3 == 0);
      });
  for (int i = 0; i < kStates; ++i) {
    EXPECT_EQ(MustGet(absl::StrCat("m", i)).running_stats().num_batches_tracked(),
              kMessages / kStates);
  }
}

// Whole milliseconds in `server-timing: cpu;dur=N`.
int64_t ToldCpuMilliseconds(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto timing = metadata.find("server-timing");
  if (timing == metadata.end()) return -1;
  const std::string text(timing->second.data(), timing->second.size());
  EXPECT_THAT(text, MatchesRegex("cpu;dur=[0-9]+[.][0-9][0-9][0-9]"));
  return std::stoll(text.substr(text.find('=') + 1));
}

// Of this process, which is the server's too.
int64_t CpuMilliseconds() {
  return CpuTime(CLOCK_PROCESS_CPUTIME_ID) / std::chrono::milliseconds(1);
}

TEST_F(StreamTest, TellsAtItsEndWhatProcessorTimeTheServerTook) {
  constexpr int64_t kBusyMilliseconds = 50;
  const int64_t before = CpuMilliseconds();
  TestContext context;
  auto stream = data_->StreamNormalize(&context);
  v1::NormalizeResponse response;
  ASSERT_TRUE(stream->Write({}));  // refused in place, from when on the stream is open for sure
  ASSERT_TRUE(stream->Read(&response));
  const int64_t open = CpuMilliseconds();
  while (CpuMilliseconds() < open + kBusyMilliseconds) {
  }
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
  const int64_t told = ToldCpuMilliseconds(context);
  EXPECT_GE(told, kBusyMilliseconds - 1);
  EXPECT_LE(told, CpuMilliseconds() - before + 1);
}

TEST_F(StreamTest, AnswersInTheOrderOfRequestsThoughSomeAreRefusedAtOnceAndOthersWait) {
  StartServer(OnDisk());
  MustCreate("m", 1);
  TestContext context;
  Pipeline(
      *data_->StreamTrain(&context), 300,
      [](int i) {
        v1::TrainRequest request = PairBatch(i % 3 == 1 ? "none" : "m", 0, 2);
        request.set_durability(i % 3 == 0 ? v1::RELAXED : v1::DURABLE);
        request.set_sequence(i);
        return request;
      },
      [](int i, const v1::TrainResponse& response) {
        EXPECT_EQ(response.sequence(), i);
        EXPECT_EQ(response.has_error(), i % 3 == 1);
      });
  EXPECT_EQ(MustGet("m").running_stats().num_batches_tracked(), 200);
}

// Every state is read from the disk again and again: 300 states of 24 KB do not fit 1 MiB.
TEST_F(StreamTest, KeepsTheOrderWhenStatesAreCold) {
  constexpr int kStates = 300;
  constexpr int kFeatures = 1000;
  normd::ServerOptions options = OnDisk();
  options.cache_bytes = kMiB;
  StartServer(options);
  for (int i = 0; i < kStates; ++i) MustCreate(absl::StrCat("m", i), kFeatures);
  StartServer(options);
  const auto request = [](int i) {
    v1::TrainRequest train;
    train.set_state(absl::StrCat("m", (i * 7) % kStates));
    *train.mutable_moments() =
        MakeMoments(2, std::vector<double>(kFeatures, i), std::vector<double>(kFeatures, 2));
    train.set_producer_id("p");
    train.set_sequence(i + 1);
    return train;
  };
  {
    TestContext context;
    Pipeline(*data_->StreamTrain(&context), 2 * kStates, request,
             [](int i, const v1::TrainResponse& response) {
               ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
               EXPECT_EQ(response.sequence(), i + 1);
               EXPECT_EQ(response.disposition(), v1::APPLIED);
               EXPECT_EQ(response.num_batches_tracked(), i / kStates + 1);
             });
  }
  StartServer(options);
  {
    TestContext context;
    Pipeline(*data_->StreamTrain(&context), 2 * kStates, request,
             [](int i, const v1::TrainResponse& response) {
               EXPECT_EQ(response.sequence(), i + 1);
               EXPECT_EQ(response.disposition(), v1::DUPLICATE);
             });
  }
  // One stream normalizes through all of them, cold as well.
  StartServer(options);
  TestContext context;
  const std::unique_ptr<NormalizeStream> stream = data_->StreamNormalize(&context);
  std::thread writer([&] {
    for (int i = 0; i < kStates; ++i) {
      v1::NormalizeRequest normalize;
      normalize.set_state(absl::StrCat("m", i));
      normalize.set_sequence(i);
      *normalize.mutable_input() =
          Float32Tensor({1, kFeatures}, std::vector<float>(kFeatures, 1.0F));
      if (!stream->Write(normalize)) break;
    }
    stream->WritesDone();
  });
  v1::NormalizeResponse response;
  int responses = 0;
  while (stream->Read(&response)) {
    ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
    EXPECT_EQ(response.sequence(), responses++);
    EXPECT_EQ(response.revision(), 3);
  }
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(responses, kStates);
}

// The refusal is ready while the update before it waits for the disk, and nothing follows.
TEST_F(StreamTest, TheFirstAnswerDoesNotWaitForMoreThanTheSecond) {
  StartServer(OnDisk());
  MustCreate("m", 1);
  for (int i = 0; i < 20; ++i) {
    TestContext context;
    const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
    ASSERT_TRUE(stream->Write(PairBatch("m", 0, 2)));
    ASSERT_TRUE(stream->Write(PairBatch("none", 0, 2)));
    v1::TrainResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_FALSE(response.has_error());
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(ErrorOf(response.error()).reason, "STATE_NOT_FOUND");
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
}

TEST_F(StreamTest, AStreamWithoutMessagesEndsWell) {
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  stream->WritesDone();
  v1::TrainResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(StreamTest, OneStreamTooManyIsRefusedAndAnEndedOneMakesRoom) {
  normd::ServerOptions options = InMemory();
  options.streams_max = 2;
  StartServer(options);
  MustCreate("m", 1);
  const auto talk = [](TrainStream& stream) {
    v1::TrainResponse response;
    stream.Write(PairBatch("m", 0, 2));
    return stream.Read(&response);
  };
  TestContext first_context;
  const std::unique_ptr<TrainStream> first = data_->StreamTrain(&first_context);
  ASSERT_TRUE(talk(*first));
  TestContext second_context;
  const std::unique_ptr<NormalizeStream> second = data_->StreamNormalize(&second_context);
  v1::NormalizeRequest normalize;
  normalize.set_state("m");
  v1::NormalizeResponse normalized;
  second->Write(normalize);
  ASSERT_TRUE(second->Read(&normalized));
  {
    TestContext context;
    const std::unique_ptr<TrainStream> third = data_->StreamTrain(&context);
    EXPECT_FALSE(talk(*third));
    const WireError error = ErrorOf(third->Finish());
    EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(error.reason, "LIMIT_REACHED") << error;
    EXPECT_EQ(error.metadata.at("limit"), "2");
  }
  EXPECT_TRUE(Train(PairBatch("m", 0, 2)).ok()) << "unary calls are not streams";
  second->WritesDone();
  EXPECT_TRUE(second->Finish().ok());
  // The server takes the ended one out of its count a moment after the client saw the end.
  for (bool admitted = false; !admitted;) {
    TestContext context;
    const std::unique_ptr<TrainStream> again = data_->StreamTrain(&context);
    admitted = talk(*again);
    again->WritesDone();
    const grpc::Status status = again->Finish();
    EXPECT_EQ(status.ok(), admitted) << ErrorOf(status);
  }
}

TEST_F(StreamTest, AFullWriteQueueEndsTheStreamAndWhatIsSentAgainIsAppliedOnce) {
  constexpr int64_t kUpdates = 300;
  normd::ServerOptions options = OnDisk();
  options.write_shards = 1;
  options.write_queue_updates_max = 1;
  StartServer(options);
  MustCreate("m", 1);
  int64_t acknowledged = 0;
  int full = 0;
  while (acknowledged < kUpdates) {
    TestContext context;
    const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
    std::thread writer([&stream, first = acknowledged + 1] {
      for (int64_t sequence = first; sequence <= kUpdates; ++sequence) {
        v1::TrainRequest request = PairBatch("m", 0, 2);
        request.set_producer_id("p");
        request.set_sequence(sequence);
        if (!stream->Write(request)) break;
      }
      stream->WritesDone();
    });
    v1::TrainResponse response;
    while (stream->Read(&response)) {
      EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
      EXPECT_EQ(response.sequence(), ++acknowledged) << "what was answered was all before it";
    }
    writer.join();
    const grpc::Status status = stream->Finish();
    if (status.ok()) continue;
    const WireError error = ErrorOf(status);
    ASSERT_EQ(error.reason, "WRITE_QUEUE_FULL") << error;
    EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE);
    EXPECT_TRUE(error.has_retry_info);
    ++full;
  }
  EXPECT_GE(full, 1) << "the queue was never full";
  EXPECT_EQ(MustGet("m").running_stats().num_batches_tracked(), kUpdates);
}

// Each answer is larger than what a connection holds for a client that does not read, so the
// first stands in the way of all others.
TEST_F(StreamTest, AClientThatNeverReadsIsReadOnlyUpToTheLimit) {
  constexpr int kOutstanding = 8;
  constexpr int kMessages = 64;
  constexpr int kFeatures = 100'000;
  normd::ServerOptions options = InMemory();
  options.stream_messages_max = kOutstanding;
  StartServer(options);
  MustCreate("m", kFeatures);
  MustCreate("other", 1);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_moments() =
      MakeMoments(2, std::vector<double>(kFeatures, 1.0), std::vector<double>(kFeatures, 1.0));
  request.set_return_moments(true);

  const std::shared_ptr<grpc::Channel> channel = Connect(address());
  const auto stub = v1::NormalizationService::NewStub(channel);
  TestContext context;
  const std::unique_ptr<TrainStream> stream = stub->StreamTrain(&context);
  std::thread writer([&] {
    for (int i = 0; i < kMessages; ++i) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  const auto applied = [this] {
    v1::State state;
    EXPECT_TRUE(Get("m", &state, v1::BASIC).ok());
    return state.running_stats().num_batches_tracked();
  };
  while (applied() < kOutstanding) {
  }
  // Long enough for many more: each of these goes through the same server.
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(Train(PairBatch("other", 0, 2)).ok());
  EXPECT_EQ(applied(), kOutstanding);

  int responses = 0;
  v1::TrainResponse response;
  while (stream->Read(&response)) {
    EXPECT_FALSE(response.has_error());
    ++responses;
  }
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(responses, kMessages);
  EXPECT_EQ(applied(), kMessages);
}

TEST_F(StreamTest, AMessageMayBeLargerThanAFixedWindow) {
  constexpr int kFeatures = 65536;  // 1 MiB of moments
  normd::ServerOptions options = InMemory();
  options.stream_window_bytes = 64 * kKiB;
  StartServer(options);
  MustCreate("m", kFeatures);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_moments() =
      MakeMoments(2, std::vector<double>(kFeatures, 1.0), std::vector<double>(kFeatures, 1.0));
  const auto stub = v1::NormalizationService::NewStub(Connect(address()));
  TestContext context;
  const std::unique_ptr<TrainStream> stream = stub->StreamTrain(&context);
  constexpr int kMessages = 20;
  std::thread writer([&] {
    for (int i = 0; i < kMessages; ++i) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  int responses = 0;
  v1::TrainResponse response;
  while (stream->Read(&response)) ++responses;
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(responses, kMessages);
  EXPECT_EQ(response.num_batches_tracked(), kMessages);
}

TEST_F(StreamTest, AClientThatNeverReadsIsReadOnlyUpToTheLimitOfBytes) {
  constexpr int kFeatures = 8192;  // 128 KiB of moments each way
  normd::ServerOptions options = InMemory();
  options.message_bytes_max = 256 * kKiB;
  options.stream_bytes_max = kMiB;
  options.stream_messages_max = 4096;
  StartServer(options);
  MustCreate("m", kFeatures);
  MustCreate("other", 1);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_moments() =
      MakeMoments(2, std::vector<double>(kFeatures, 1.0), std::vector<double>(kFeatures, 1.0));
  request.set_return_moments(true);
  const auto stub = v1::NormalizationService::NewStub(Connect(address()));
  TestContext context;
  const std::unique_ptr<TrainStream> stream = stub->StreamTrain(&context);
  std::thread writer([&] {
    for (int i = 0; i < 100; ++i) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(Train(PairBatch("other", 0, 2)).ok());
  v1::State state;
  ASSERT_TRUE(Get("m", &state, v1::BASIC).ok());
  // 8 requests fill the limit, and one more may have been read before their answers were counted.
  EXPECT_GE(state.running_stats().num_batches_tracked(), 1);
  EXPECT_LE(state.running_stats().num_batches_tracked(), 9);
  int responses = 0;
  v1::TrainResponse response;
  while (stream->Read(&response)) ++responses;
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(responses, 100);
}

TEST_F(StreamTest, ClientsThatVanishInMidStreamLeaveNothingBehind) {
  normd::ServerOptions options = OnDisk();
  options.streams_max = 4;
  StartServer(options);
  MustCreate("m", 1);
  // More than streams_max in all: one that leaked would soon keep the others out.
  for (int i = 0; i < 40;) {
    const std::shared_ptr<grpc::Channel> channel = i % 2 == 0 ? channel_ : Connect(address());
    const auto stub = v1::NormalizationService::NewStub(channel);
    TestContext context;
    const std::unique_ptr<TrainStream> stream = stub->StreamTrain(&context);
    v1::TrainResponse response;
    if (stream->Write(PairBatch("m", 0, 2)) && stream->Read(&response)) {
      for (int k = 0; k < 20; ++k) stream->Write(PairBatch("m", 0, 2));
      if (i % 4 >= 2) stream->Read(&response);
      ++i;
    }
    context.TryCancel();
    const grpc::Status status = stream->Finish();
    if (status.error_code() != grpc::StatusCode::CANCELLED) {
      EXPECT_EQ(ErrorOf(status).reason, "LIMIT_REACHED");
    }
  }
  EXPECT_GE(MustGet("m").running_stats().num_batches_tracked(), 40);
}

}  // namespace
}  // namespace normd::testing
