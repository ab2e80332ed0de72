// A stream and its handler: what is told of before it is handled, and what is handled at all.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "core/base/error.h"
#include "core/base/memory_budget.h"
#include "server/call_set.h"
#include "server/message_handler.h"
#include "server/normalization_service.h"
#include "server/serving_queue.h"
#include "server/unary_gate.h"
#include "tests/server/raw_stream.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;

std::string TextOf(const grpc::ByteBuffer& bytes) {
  grpc::Slice slice;
  EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
  return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

std::vector<std::string> Numbers(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) texts.push_back(absl::StrCat(i));
  return texts;
}

// What the handler was told with one Prefetch.
struct Told {
  size_t handled_before = 0;
  std::vector<std::string> texts;
};

// Answers each request with its own bytes, at once but for two: "held", which has its place at once
// and is answered by AnswerHeld, and "end", whose answer ends the stream.
class EchoHandler final : public MessageHandler {
 public:
  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override {
    grpc::ByteBuffer bytes;
    bytes.Swap(request);
    const std::string text = TextOf(bytes);
    {
      absl::MutexLock lock(&mutex_);
      handled_.push_back(text);
      if (text == "held") held_ = call;
    }
    if (text == "held") {
      call->Accepted();
      holds_.Notify();
    } else if (text == "end") {
      call->Done(MakeError(Reason::kShuttingDown, "the end"), grpc::ByteBuffer());
    } else {
      call->Done(absl::OkStatus(), bytes);
    }
  }

  void Prefetch(absl::Span<grpc::ByteBuffer* const> requests) override {
    absl::MutexLock lock(&mutex_);
    Told& told = told_.emplace_back();
    told.handled_before = handled_.size();
    for (grpc::ByteBuffer* const request : requests) told.texts.push_back(TextOf(*request));
  }

  void AwaitHeld() { holds_.WaitForNotification(); }

  void AnswerHeld() {
    std::shared_ptr<MessageCall> call;
    {
      absl::MutexLock lock(&mutex_);
      call = std::move(held_);
    }
    const grpc::Slice answer("held");
    call->Done(absl::OkStatus(), grpc::ByteBuffer(&answer, 1));
  }

  // The requests in the order in which they were handled.
  std::vector<std::string> handled() {
    absl::MutexLock lock(&mutex_);
    return handled_;
  }
  std::vector<Told> told() {
    absl::MutexLock lock(&mutex_);
    return told_;
  }

 private:
  absl::Notification holds_;
  absl::Mutex mutex_;
  std::vector<std::string> handled_ ABSL_GUARDED_BY(mutex_);
  std::vector<Told> told_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<MessageCall> held_ ABSL_GUARDED_BY(mutex_);
};

class MessageStreamTest : public ::testing::Test {
 protected:
  MessageStreamTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.service());
    queue_ = std::make_unique<ServingQueue>(builder, /*threads_max=*/2);
    server_ = builder.BuildAndStart();
    service_.Serve(queue_.get());
    queue_->Start();
    stream_ = std::make_unique<RawStream>(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()),
        "/normd.v1.NormalizationService/StreamNormalize");
  }

  ~MessageStreamTest() override {
    stream_.reset();
    server_->Shutdown();
    queue_.reset();
  }

  // One request that is held, and then `texts`, in one piece.
  void WriteBehindHeld(const std::vector<std::string>& texts) {
    ASSERT_TRUE(stream_->Write("held"));
    handler_.AwaitHeld();
    for (const std::string& text : texts) {
      ASSERT_TRUE(stream_->Write(text, /*more=*/&text != &texts.back()));
    }
  }

  // The answers until the stream ends.
  std::vector<std::string> ReadAll() {
    std::vector<std::string> answers;
    while (std::optional<std::string> answer = stream_->ReadBytes()) answers.push_back(*answer);
    return answers;
  }

  EchoHandler handler_;
  CallSet streams_{10};
  UnaryGate gate_;
  NormalizationService service_{{.train = &handler_,
                                 .normalize = &handler_,
                                 .backward = &handler_,
                                 .apply_gradients = &handler_},
                                StreamLimits(),
                                &streams_,
                                &gate_,
                                MemoryBudget::Unlimited()};
  std::unique_ptr<ServingQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<RawStream> stream_;
};

TEST_F(MessageStreamTest, WhatComesAtOnceIsToldTogetherBeforeTheFirstIsHandled) {
  const std::vector<std::string> texts = Numbers(40);
  WriteBehindHeld(texts);
  ASSERT_TRUE(stream_->WritesDone());
  handler_.AnswerHeld();
  std::vector<std::string> all = {"held"};
  all.insert(all.end(), texts.begin(), texts.end());
  EXPECT_EQ(ReadAll(), all);
  EXPECT_TRUE(stream_->Finish().ok());
  EXPECT_EQ(handler_.handled(), all);
  // How many come at once is the connection's to say.
  EXPECT_GT(handler_.told().size(), 0);
  for (const Told& told : handler_.told()) {
    EXPECT_GE(told.texts.size(), 2);
    ASSERT_LE(told.handled_before + told.texts.size(), all.size());
    EXPECT_TRUE(std::equal(told.texts.begin(), told.texts.end(),
                           all.begin() + static_cast<ptrdiff_t>(told.handled_before)));
  }
}

TEST_F(MessageStreamTest, NothingBehindAnAnswerThatEndsTheStreamIsHandled) {
  WriteBehindHeld({"a", "end", "b", "c"});
  ASSERT_TRUE(stream_->WritesDone());
  handler_.AnswerHeld();
  EXPECT_THAT(ReadAll(), ElementsAre("held", "a"));
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(handler_.handled(), ElementsAre("held", "a", "end"));
}

// More than are read ahead; drained while they wait.
TEST_F(MessageStreamTest, EveryRequestThatWasReadIsAnsweredInOrderThoughTheServerDrains) {
  WriteBehindHeld(Numbers(40));
  streams_.Drain();
  handler_.AnswerHeld();
  const std::vector<std::string> answers = ReadAll();
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(answers, handler_.handled());
}

}  // namespace
}  // namespace normd::testing
