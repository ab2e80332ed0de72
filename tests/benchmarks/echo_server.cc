// The best that gRPC can do: a server that sends every message of every streaming method back as it
// came. Raw bytes, completion queues, and reading goes on while it writes; nothing is parsed or
// copied. What compare.sh holds normd against.
//
//   echo_server [--listen=ADDRESS]... [--port-file=FILE] [--threads=N]
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/load/process.h"

namespace normd::bench {
namespace {

// What one stream holds at a time; beyond it the stream is not read.
constexpr size_t kHeldMessagesMax = 256;
constexpr size_t kHeldBytesMax = size_t{128} << 20;
// So many are written at once at the latest, so that the client need not wait for all.
constexpr size_t kBurst = 32;

struct Options {
  std::vector<std::string> listen = {"127.0.0.1:0"};
  std::string port_file;
  int threads = 1;
};

// One stream. Belongs to the thread of its completion queue and deletes itself.
class EchoCall {
 public:
  // Awaits the next stream on `queue`. Both must outlive it.
  static void Await(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue) {
    auto* const call = new EchoCall(service, queue);
    service->RequestCall(&call->context_, &call->stream_, queue, queue, &call->begun_);
  }

  // Handles the events of `queue` until it is shut down. Streams write when no more messages wait
  // to be read, so that answers go out together: one that is flushed by itself costs a system call,
  // and the client a wake-up.
  static void Work(grpc::ServerCompletionQueue* queue) {
    std::vector<EchoCall*> owing;
    void* tag = nullptr;
    bool ok = false;
    while (true) {
      if (owing.empty()) {
        if (!queue->Next(&tag, &ok)) return;
      } else if (queue->AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) !=
                 grpc::CompletionQueue::GOT_EVENT) {
        for (EchoCall* const call : owing) call->WriteOwed();
        owing.clear();
        continue;
      }
      const Event* const event = static_cast<Event*>(tag);
      EchoCall* const call = event->call;
      (call->*event->handle)(ok);
      if (call->owes_writes_ && !call->is_listed_) owing.push_back(call);
      call->is_listed_ |= call->owes_writes_;
      if (!call->is_over_) continue;
      std::erase(owing, call);
      delete call;
    }
  }

 private:
  struct Event {
    EchoCall* call;
    void (EchoCall::*handle)(bool ok);
  };

  EchoCall(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue) {}

  void OnBegun(bool ok) {
    is_over_ = !ok;  // the server is shutting down
    if (!ok) return;
    Await(service_, queue_);
    Read();
  }

  void OnRead(bool ok) {
    is_reading_ = false;
    if (ok) {
      held_bytes_ += incoming_.Length();
      held_.emplace_back().Swap(&incoming_);
      Read();
      owes_writes_ = !is_writing_;
      if (held_.size() < kBurst) return;
    } else {
      has_ended_ = true;
    }
    Write();
  }

  void OnWritten(bool ok) {
    is_writing_ = false;
    if (!ok) {  // the call is over
      has_ended_ = true;
      held_.clear();
    } else {
      held_bytes_ -= held_.front().Length();
      held_.pop_front();
      Read();
    }
    Write();
  }

  void OnFinished(bool /*ok*/) { is_over_ = true; }

  void Read() {
    if (is_reading_ || has_ended_ || held_.size() >= kHeldMessagesMax ||
        held_bytes_ >= kHeldBytesMax) {
      return;
    }
    is_reading_ = true;
    stream_.Read(&incoming_, &read_);
  }

  void WriteOwed() {
    is_listed_ = false;
    Write();
  }

  void Write() {
    owes_writes_ = false;
    if (is_writing_) return;
    if (!held_.empty()) {
      grpc::WriteOptions options;
      // Where another follows for sure. Not the first: it carries the headers, which must be
      // flushed for it to end.
      if (held_.size() > 1 && has_written_) options.set_buffer_hint();
      has_written_ = true;
      is_writing_ = true;
      return stream_.Write(held_.front(), options, &written_);
    }
    if (!has_ended_ || is_reading_ || is_finishing_) return;
    is_finishing_ = true;
    stream_.Finish(grpc::Status::OK, &finished_);
  }

  grpc::AsyncGenericService* const service_;
  grpc::ServerCompletionQueue* const queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  Event begun_ = {this, &EchoCall::OnBegun};
  Event read_ = {this, &EchoCall::OnRead};
  Event written_ = {this, &EchoCall::OnWritten};
  Event finished_ = {this, &EchoCall::OnFinished};

  grpc::ByteBuffer incoming_;
  std::deque<grpc::ByteBuffer> held_;  // the first may be being written
  size_t held_bytes_ = 0;
  bool is_reading_ = false;
  bool is_writing_ = false;
  bool has_written_ = false;
  bool owes_writes_ = false;
  bool is_listed_ = false;  // among those that owe writes
  bool has_ended_ = false;
  bool is_finishing_ = false;
  bool is_over_ = false;
};

// Renamed when whole, so that a reader never sees half of it.
bool WritePortFile(const Options& options, const std::vector<int>& ports) {
  if (options.port_file.empty()) return true;
  const std::string temporary = options.port_file + ".tmp";
  std::ofstream file(temporary);
  for (size_t i = 0; i < ports.size(); ++i) {
    const std::string& listen = options.listen[i];
    const bool is_unix = listen.rfind("unix:", 0) == 0;
    file << (is_unix ? listen : absl::StrCat(listen.substr(0, listen.rfind(':')), ":", ports[i]))
         << "\n";
  }
  file.close();
  return file && std::rename(temporary.c_str(), options.port_file.c_str()) == 0;
}

int Serve(const Options& options) {
  load::TuneProcess();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  std::vector<int> ports(options.listen.size(), 0);
  for (size_t i = 0; i < ports.size(); ++i) {
    builder.AddListeningPort(options.listen[i], grpc::InsecureServerCredentials(), &ports[i]);
  }
  builder.RegisterAsyncGenericService(&service);
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  for (int i = 0; i < options.threads; ++i) queues.push_back(builder.AddCompletionQueue());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || !WritePortFile(options, ports)) {
    std::fprintf(stderr, "echo_server: cannot listen, or cannot write the port file\n");
    return 1;
  }
  std::vector<std::thread> threads;
  for (const auto& queue : queues) {
    EchoCall::Await(&service, queue.get());
    threads.emplace_back([&queue] { EchoCall::Work(queue.get()); });
  }
  int signal = 0;
  sigwait(&signals, &signal);
  server->Shutdown(std::chrono::system_clock::now());
  for (const auto& queue : queues) queue->Shutdown();
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace
}  // namespace normd::bench

int main(int argc, char** argv) {
  normd::bench::Options options;
  CLI::App app("Sends every message of every streaming method back as it came");
  app.add_option("--listen", options.listen, "HOST:PORT or unix:PATH; may be repeated")->take_all();
  app.add_option("--port-file", options.port_file, "written with the addresses, one a line");
  app.add_option("--threads", options.threads, "completion queues, each with a thread")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.set_version_flag("--version", "gRPC " + grpc::Version());
  CLI11_PARSE(app, argc, argv);
  return normd::bench::Serve(options);
}
