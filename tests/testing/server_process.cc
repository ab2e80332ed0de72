#include "tests/testing/server_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

extern char** environ;

namespace normd::testing {
namespace {

// Pointers to the strings, ended by nullptr, as exec wants them.
std::vector<char*> ToPointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> EnvironmentWith(const std::map<std::string, std::string>& added) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string name = std::string(*variable, std::strcspn(*variable, "="));
    if (added.count(name) == 0) variables.emplace_back(*variable);
  }
  for (const auto& [name, value] : added) variables.push_back(absl::StrCat(name, "=", value));
  return variables;
}

std::string Describe(const ExitStatus& status) {
  if (status.code.has_value()) return absl::StrCat("exit code ", *status.code);
  return absl::StrCat("signal ", status.signal);
}

}  // namespace

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(const ServerOptions& options) {
  std::unique_ptr<ServerProcess> server(new ServerProcess());
  server->port_file_ = server->scratch_.path() + "/ports";
  server->log_file_ = server->scratch_.path() + "/log";

  std::vector<std::string> arguments = {NORMD_SERVER_BINARY, "--port-file=" + server->port_file_};
  for (const std::string& address : options.listen) arguments.push_back("--listen=" + address);
  arguments.push_back(options.data_dir.empty() ? "--store=memory"
                                               : "--data-dir=" + options.data_dir);
  arguments.insert(arguments.end(), options.flags.begin(), options.flags.end());
  std::vector<std::string> environment = EnvironmentWith(options.environment);
  const std::vector<char*> argv = ToPointers(arguments);
  const std::vector<char*> envp = ToPointers(environment);

  const int log =
      ::open(server->log_file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0644);
  if (log < 0) return absl::ErrnoToStatus(errno, server->log_file_);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(log);
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  server->pid_ = pid;
  // glibc 2.36 declares pidfd_open without C linkage.
  server->pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (server->pid_fd_ < 0) return absl::ErrnoToStatus(errno, "pidfd_open");
  if (absl::Status status = server->WaitUntilServing(absl::Minutes(1)); !status.ok()) return status;
  return server;
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) Kill();
  if (pid_fd_ >= 0) ::close(pid_fd_);
}

void ServerProcess::Signal(int signal) {
  if (!exit_status_.has_value()) ::kill(pid_, signal);
}

std::optional<ExitStatus> ServerProcess::Wait(absl::Duration timeout) {
  if (exit_status_.has_value()) return exit_status_;
  pollfd ended = {pid_fd_, POLLIN, 0};
  const absl::Time deadline = absl::Now() + timeout;
  int ready = 0;
  do {
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    ready = ::poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(left)));
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return std::nullopt;
  int status = 0;
  ::waitpid(pid_, &status, 0);
  exit_status_.emplace();
  if (WIFEXITED(status)) exit_status_->code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) exit_status_->signal = WTERMSIG(status);
  return exit_status_;
}

void ServerProcess::Kill() {
  Signal(SIGKILL);
  Wait(absl::Minutes(1));
}

int64_t ServerProcess::ResidentBytes() const {
  const std::string status = ReadFile(absl::StrCat("/proc/", pid_, "/status"));
  int64_t kilobytes = 0;
  for (const absl::string_view line : absl::StrSplit(status, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    if (words.size() == 3 && words[0] == "VmRSS" && absl::SimpleAtoi(words[1], &kilobytes)) break;
  }
  return kilobytes * 1024;
}

std::string ServerProcess::Log() const { return ReadFile(log_file_); }

absl::Status ServerProcess::WaitUntilServing(absl::Duration timeout) {
  const int watch = ::inotify_init1(IN_CLOEXEC);
  ::inotify_add_watch(watch, scratch_.path().c_str(), IN_MOVED_TO | IN_CLOSE_WRITE);
  const absl::Time deadline = absl::Now() + timeout;
  absl::Status status;
  while (addresses_.empty()) {
    if (std::filesystem::exists(port_file_)) {
      addresses_ = absl::StrSplit(ReadFile(port_file_), '\n', absl::SkipEmpty());
      if (!addresses_.empty()) break;
    }
    pollfd events[] = {{watch, POLLIN, 0}, {pid_fd_, POLLIN, 0}};
    const absl::Duration left = deadline - absl::Now();
    const int ready = left <= absl::ZeroDuration()
                          ? 0
                          : ::poll(events, 2, static_cast<int>(absl::ToInt64Milliseconds(left)));
    if (ready == 0) {
      status = absl::DeadlineExceededError(absl::StrCat(
          "normd wrote no port file within ", absl::FormatDuration(timeout), "\n", Log()));
      break;
    }
    if ((events[1].revents & POLLIN) != 0) {
      status = absl::FailedPreconditionError(absl::StrCat(
          "normd ended before it served: ", Describe(*Wait(absl::ZeroDuration())), "\n", Log()));
      break;
    }
    char buffer[4096];
    if (ready > 0 && ::read(watch, buffer, sizeof(buffer)) < 0) {
      status = absl::ErrnoToStatus(errno, "inotify");
      break;
    }
  }
  ::close(watch);
  return status;
}

}  // namespace normd::testing
