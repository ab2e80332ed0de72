#ifndef NORMD_TESTS_TESTING_SERVER_PROCESS_H_
#define NORMD_TESTS_TESTING_SERVER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/testing/temp_dir.h"

namespace normd::testing {

// How a normd is started.
struct ServerOptions {
  // Its --data-dir. Empty: --store=memory.
  std::string data_dir;
  // Its --listen addresses. Port 0 means a free port.
  std::vector<std::string> listen = {"127.0.0.1:0"};
  // Further flags.
  std::vector<std::string> flags;
  // Added to the environment.
  std::map<std::string, std::string> environment;
};

// How a process ended.
struct ExitStatus {
  // What it returned; nothing when a signal ended it.
  std::optional<int> code;
  // The signal that ended it, or 0.
  int signal = 0;
};

// A real normd in a process of its own; killed with this object, or with the thread that started
// it. Thread-compatible.
class ServerProcess {
 public:
  // Starts a server and waits until it serves. When it ends before: kFailedPrecondition, with how
  // it ended and its log. When it does neither within a minute: kDeadlineExceeded.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(const ServerOptions& options);
  ~ServerProcess();

  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Sends a signal; does not wait.
  void Signal(int signal);

  // Waits for the end; nothing when it still runs after `timeout`. May be called again.
  std::optional<ExitStatus> Wait(absl::Duration timeout);

  // kill -9, and waits for the end.
  void Kill();

  // Where it listens, in the order of ServerOptions::listen; ports are never 0.
  const std::vector<std::string>& addresses() const { return addresses_; }
  const std::string& address() const { return addresses_.front(); }

  // The memory that it has in RAM, in bytes (VmRSS of proc(5)).
  int64_t ResidentBytes() const;

  // What it wrote to its standard output and error so far.
  std::string Log() const;

 private:
  ServerProcess() = default;

  // The port file appeared, or the process ended, or the time is up: whichever is first.
  absl::Status WaitUntilServing(absl::Duration timeout);

  TempDir scratch_;  // the port file and the log
  std::string port_file_;
  std::string log_file_;
  std::vector<std::string> addresses_;
  pid_t pid_ = -1;
  int pid_fd_ = -1;
  std::optional<ExitStatus> exit_status_;
};

// The whole of a file; empty when it cannot be read.
std::string ReadFile(const std::string& path);

}  // namespace normd::testing

#endif  // NORMD_TESTS_TESTING_SERVER_PROCESS_H_
