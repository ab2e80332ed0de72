#include "tests/benchmarks/torch_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

extern char** environ;

namespace normd::bench {
namespace {

class Torch : public Contender {
 public:
  Torch(TorchProcess& process, double checksum) : process_(process), checksum_(checksum) {}

  absl::StatusOr<double> Run(int times) override {
    return process_.Ask(absl::StrCat("run ", times));
  }

  absl::StatusOr<double> Checksum() override { return checksum_; }

 private:
  TorchProcess& process_;
  const double checksum_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TorchProcess>> TorchProcess::Start(const std::string& python,
                                                                  const std::string& script) {
  // A process that ended shall be seen as an error of the write.
  std::signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> commands;
  std::array<int, 2> answers;
  if (pipe2(commands.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  if (pipe2(answers.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, commands[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, answers[1], STDOUT_FILENO);

  std::vector<std::string> arguments = {"/usr/bin/env",
                                        "OMP_NUM_THREADS=1",
                                        "MALLOC_MMAP_MAX_=0",
                                        "MALLOC_TRIM_THRESHOLD_=4294967296",
                                        python,
                                        "-B",
                                        script};
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(commands[0]);
  close(answers[1]);
  if (error != 0) {
    close(commands[1]);
    close(answers[0]);
    return absl::ErrnoToStatus(error, arguments[0]);
  }
  return std::unique_ptr<TorchProcess>(
      new TorchProcess(pid, fdopen(commands[1], "w"), fdopen(answers[0], "r")));
}

TorchProcess::~TorchProcess() {
  std::fclose(commands_);  // which it takes as the end
  std::fclose(answers_);
  waitpid(pid_, nullptr, 0);
}

absl::StatusOr<std::unique_ptr<Contender>> TorchProcess::Prepare(const BenchCase& bench_case) {
  const auto checksum = Ask(absl::StrCat(
      "prepare ", NormKindName(bench_case.kind), " ", DirectionName(bench_case.direction), " ",
      absl::StrJoin(bench_case.shape, ","), " ",
      bench_case.layout == Layout::kChannelsLast ? "last" : "first", " ", bench_case.num_groups));
  if (!checksum.ok()) return checksum.status();
  return std::make_unique<Torch>(*this, *checksum);
}

absl::StatusOr<double> TorchProcess::Ask(absl::string_view command) {
  std::array<char, 64> line;
  double answer = 0;
  if (std::fprintf(commands_, "%s\n", std::string(command).c_str()) < 0 ||
      std::fflush(commands_) != 0 ||
      std::fgets(line.data(), static_cast<int>(line.size()), answers_) == nullptr ||
      !absl::SimpleAtod(line.data(), &answer)) {
    return absl::UnavailableError(
        absl::StrCat("PyTorch's process gave no number for '", command, "'"));
  }
  return answer;
}

}  // namespace normd::bench
