#include "client/load/load_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/cpp/wire_status.h"
#include "client/load/answer.h"

namespace normd::load {

void LoadTally::AddError(const absl::Status& error) {
  if (errors++ == 0) first_error = error;
}

LoadStream::LoadStream(const LoadPlan* plan, RequestSource::Stream requests, int64_t messages_max,
                       const std::shared_ptr<grpc::Channel>& channel, grpc::CompletionQueue* queue,
                       LoadTally* tally)
    : plan_(plan),
      messages_max_(messages_max),
      tally_(tally),
      requests_(std::move(requests)),
      stub_(channel),
      call_(stub_.PrepareCall(&context_, plan->method, queue)),
      sent_(plan->window) {}

void LoadStream::Start() { call_->StartCall(&started_); }

LoadStream* LoadStream::OnEvent(void* tag, bool ok) {
  const Event* const event = static_cast<Event*>(tag);
  LoadStream* const stream = event->stream;
  (stream->*event->handle)(ok);
  return stream;
}

bool LoadStream::BeginsToOwe() {
  const bool begins = owes_writes_ && !is_owing_known_;
  is_owing_known_ |= owes_writes_;
  return begins;
}

void LoadStream::WriteOwed() {
  is_owing_known_ = false;
  Write();
}

void LoadStream::OnStarted(bool ok) {
  if (ok) {
    is_reading_ = true;
    call_->Read(&answer_, &read_);
    Write();
  }
  MaybeFinish();
}

void LoadStream::OnRead(bool ok) {
  is_reading_ = false;
  if (ok) {
    grpc::ByteBuffer answer;
    answer.Swap(&answer_);
    is_reading_ = true;
    call_->Read(&answer_, &read_);
    Take(answer);
    owes_writes_ = !is_writing_ && !has_ended_side_;
    if (in_flight() <= window() / 2) Write();
  }
  MaybeFinish();
}

void LoadStream::OnWritten(bool ok) {
  is_writing_ = false;
  // The call is over: reading tells why.
  if (!ok) has_ended_side_ = true;
  Write();
  MaybeFinish();
}

void LoadStream::OnFinished(bool /*ok*/) {
  is_finished_ = true;
  const auto& metadata = context_.GetServerTrailingMetadata();
  if (const auto timing = metadata.find("server-timing"); timing != metadata.end()) {
    tally_->server_cpu_seconds =
        std::max(tally_->server_cpu_seconds,
                 CpuSeconds(absl::string_view(timing->second.data(), timing->second.size())));
  }
  tally_->unanswered += in_flight();
  if (!status_.ok()) return tally_->AddError(client::FromGrpc(status_));
  if (in_flight() == 0 && has_ended_side_) return;
  tally_->AddError(absl::UnavailableError(
      absl::StrCat("the server ended a stream with ", in_flight(), " messages unanswered")));
}

void LoadStream::Write() {
  owes_writes_ = false;
  if (is_writing_ || has_ended_side_ || is_finishing_) return;
  const LoadClock::time_point now = LoadClock::now();
  if (num_sent_ == messages_max_ || now >= plan_->measure_until ||
      plan_->stop.load(std::memory_order_relaxed)) {
    has_ended_side_ = true;
    is_writing_ = true;
    return call_->WritesDone(&written_);
  }
  if (in_flight() == window()) return;
  const grpc::ByteBuffer message = requests_.Next();
  sent_[static_cast<size_t>(num_sent_) % plan_->window] = {
      .at = now, .bytes = static_cast<int64_t>(message.Length())};
  ++num_sent_;
  grpc::WriteOptions options;
  // Another write, or the end of this side, follows for sure.
  if (in_flight() < window()) options.set_buffer_hint();
  is_writing_ = true;
  call_->Write(message, options, &written_);
}

void LoadStream::Take(grpc::ByteBuffer& answer) {
  const LoadClock::time_point now = LoadClock::now();
  if (in_flight() == 0) {
    tally_->AddError(absl::InternalError("an answer came to no message"));
    return context_.TryCancel();
  }
  const Sent& sent = sent_[static_cast<size_t>(num_answered_) % plan_->window];
  ++num_answered_;
  tally_->last_answer = now;
  tally_->answered.fetch_add(1, std::memory_order_relaxed);
  tally_->answered_bytes.fetch_add(sent.bytes, std::memory_order_relaxed);
  const absl::Status error =
      plan_->error_field == 0 ? absl::OkStatus() : AnswerError(answer, plan_->error_field);
  if (error.ok()) {
    ++tally_->acknowledged;
  } else {
    tally_->AddError(error);
  }
  if (now < plan_->measure_from || now >= plan_->measure_until) return;
  tally_->latency.Record(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - sent.at).count());
  tally_->sent_bytes += sent.bytes;
  tally_->received_bytes += static_cast<int64_t>(answer.Length());
}

void LoadStream::MaybeFinish() {
  if (is_reading_ || is_writing_ || is_finishing_) return;
  is_finishing_ = true;
  call_->Finish(&status_, &finished_);
}

}  // namespace normd::load
